/* A scan: which tile comes when, and what goes wrong. */
#ifndef SCANNER_SCAN_HPP
#define SCANNER_SCAN_HPP

#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "slides.hpp"

using Clock = std::chrono::steady_clock;

/* What became of the deliveries, and how long they took. */
struct Report {
    size_t pushed = 0, left_out = 0, unreadable = 0; /* by the camera or the folder */
    size_t lost = 0, late = 0, refused = 0;          /* refused: that came a second time */
    size_t resumed = 0;                              /* that the spool had already */
    std::vector<double> push_seconds;
    double behind = 0; /* how far the scan fell behind its rate at most, in seconds */
    Clock::time_point last_tile;
};

class Scan {
  public:
    Scan(unicas_edge::Session &session, const Slide &slide, const Options &options, size_t side);
    ~Scan();
    /* Deliver every tile. Throws unicas_edge::Error, of status UE_ENDED once it was cancelled. */
    Report run();

  private:
    struct Delivery {
        unicas_edge::Place place;
        size_t when; /* in tiles since the scan began */
        bool again;
    };
    std::vector<Delivery> schedule();
    void plan(std::vector<Delivery> &deliveries, unicas_edge::Place place, size_t when);
    void wait_for(size_t number, size_t when);
    void go_wrong(size_t number);
    bool has(const Delivery &delivery);
    void deliver(const Delivery &delivery);
    void take(const Tile &tile, unicas_edge::Place place);
    void timed(const std::function<void()> &push);

    unicas_edge::Session &session_;
    const Slide &slide_;
    const Options &options_;
    size_t side_;
    Report report_;
    Clock::time_point begin_;
    std::thread user_; /* who cancels */
};

#endif
