#include "scan.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>

namespace {

/* A late tile comes at most so many tiles after its turn. */
constexpr uint64_t latest = 300;

Clock::duration seconds(double count) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

[[noreturn]] void crash() {
#ifdef SIGKILL
    std::raise(SIGKILL);
#endif
    std::_Exit(137);
}

} // namespace

Scan::Scan(unicas_edge::Session &session, const Slide &slide, const Options &options, size_t side)
    : session_(session), slide_(slide), options_(options), side_(side) {
}

Scan::~Scan() {
    if (user_.joinable())
        user_.join();
}

/* As a stage moves: one row to the right, the next one back. */
std::vector<Scan::Delivery> Scan::schedule() {
    const unicas_edge::Grid grid = session_.grid();
    std::vector<Delivery> deliveries;
    for (size_t row = 0; row < grid.rows; row++)
        for (size_t k = 0; k < grid.cols; k++) {
            const size_t col = row % 2 ? grid.cols - 1 - k : k;
            plan(deliveries, session_.origin(row, col), row * grid.cols + k);
        }
    std::stable_sort(deliveries.begin(), deliveries.end(),
                     [](const Delivery &a, const Delivery &b) { return a.when < b.when; });
    return deliveries;
}

/* What goes wrong with a tile depends on the seed and its turn, so that a second scan repeats it.
 */
void Scan::plan(std::vector<Delivery> &deliveries, unicas_edge::Place place, size_t when) {
    const uint64_t bits = scramble(options_.seed ^ scramble(when));
    if (bits % 1000 < options_.lost) {
        report_.lost++;
        return;
    }
    const bool late = (bits >> 10) % 1000 < options_.late;
    const size_t delay = late ? 1 + static_cast<size_t>((bits >> 40) % latest) : 0;
    report_.late += late;
    deliveries.push_back({place, when + delay, false});
    if ((bits >> 20) % 1000 < options_.twice)
        deliveries.push_back({place, when + delay + (bits >> 50) % 9, true});
}

Report Scan::run() {
    const std::vector<Delivery> deliveries = schedule();
    begin_ = report_.last_tile = Clock::now();
    for (size_t number = 0; number < deliveries.size(); number++) {
        go_wrong(number);
        if (has(deliveries[number]))
            continue;
        wait_for(number, deliveries[number].when);
        deliver(deliveries[number]);
        report_.last_tile = Clock::now();
    }
    go_wrong(deliveries.size());
    return report_;
}

void Scan::go_wrong(size_t number) {
    if (number == options_.crash_after)
        crash();
    if (number == options_.cancel_after)
        user_ = std::thread([this] { session_.cancel(); });
}

/* Until the stage is there: a scanner that was held up catches up. */
void Scan::wait_for(size_t number, size_t when) {
    if (number == options_.pause_after) {
        std::this_thread::sleep_for(seconds(options_.pause));
        begin_ += seconds(options_.pause);
    }
    if (!(options_.rate > 0))
        return;
    const Clock::time_point due = begin_ + seconds(static_cast<double>(when) / options_.rate);
    const std::chrono::duration<double> behind = Clock::now() - due;
    report_.behind = std::max(report_.behind, behind.count());
    std::this_thread::sleep_until(due);
}

/* Whether the spool has it, so that it need not be scanned again, and takes no time. */
bool Scan::has(const Delivery &delivery) {
    if (delivery.again || !session_.came(delivery.place.x, delivery.place.y))
        return false;
    report_.resumed++;
    if (options_.rate > 0)
        begin_ -= seconds(1 / options_.rate);
    return true;
}

void Scan::deliver(const Delivery &delivery) {
    const unicas_edge::Place place = delivery.place;
    try {
        take(slide_.read(place.x, place.y), place);
    } catch (const unicas_edge::Error &error) {
        if (!delivery.again || error.status() != UE_BAD_TILE)
            throw;
        report_.refused++;
    } catch (const std::exception &error) {
        session_.fail(place.x, place.y, error.what());
        report_.unreadable++;
    }
}

void Scan::take(const Tile &tile, unicas_edge::Place place) {
    if (!tile.jpeg.empty())
        timed([&] { session_.push_jpeg(tile.jpeg, place.x, place.y); });
    else if (!tile.rgb.empty())
        timed([&] { session_.push(tile.rgb, place.x, place.y); });
    else {
        session_.skip(place.x, place.y);
        report_.left_out++;
        return;
    }
    if (!options_.save.empty() && !tile.rgb.empty())
        save_tile(options_.save, place.x, place.y, side_, tile.rgb);
}

void Scan::timed(const std::function<void()> &push) {
    const Clock::time_point begin = Clock::now();
    push();
    const std::chrono::duration<double> taken = Clock::now() - begin;
    report_.push_seconds.push_back(taken.count());
    report_.pushed++;
}
