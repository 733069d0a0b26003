/*
 * The C++ face as a host uses it: check BUNDLE
 *
 * With an encoder of its own, so that no runtime is needed. Prints what went wrong; 0 where nothing
 * did.
 */
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include <unicas_edge.hpp>

namespace ue = unicas_edge;

#define CHECK(holds)                                                \
    do {                                                            \
        if (!(holds)) {                                             \
            std::printf("%s:%d: %s\n", __FILE__, __LINE__, #holds); \
            std::exit(1);                                           \
        }                                                           \
    } while (0)

/* ---- what is used ---------------------------------------------------------------------------- */

static std::string folder;
static std::atomic<int> alive{0};

/* A gate that encoders stand before until it is opened. */
struct Gate {
    std::mutex mutex;
    std::condition_variable opened;
    bool open = true;

    void set(bool now) {
        const std::lock_guard<std::mutex> lock(mutex);
        open = now;
        opened.notify_all();
    }
    void pass() {
        std::unique_lock<std::mutex> lock(mutex);
        opened.wait(lock, [this] { return open; });
    }
};

static Gate gate;

/* A token is a tile's mean colour, again and again. */
class Mean : public ue::HostEncoder {
  public:
    explicit Mean(const ue_bundle_info &info) {
        alive++;
        batch = 2;
        workers = 2;
        crop = info.crop_px;
        width = info.width;
        dtype = info.dtype;
        name = "mean";
        version = "1";
        precision = "fp32";
        device = "Prüfstand";
    }
    ~Mean() override {
        alive--;
    }
    void encode(const void *planes, float *tokens) override {
        gate.pass();
        const auto *plane = static_cast<const float *>(planes);
        for (size_t tile = 0; tile < batch; tile++) {
            float means[3];
            for (size_t c = 0; c < 3; c++)
                means[c] = mean(plane + (3 * tile + c) * crop * crop);
            for (size_t k = 0; k < width; k++)
                tokens[tile * width + k] = means[k % 3];
        }
    }
    void interrupt() noexcept override {
        gate.set(true);
    }

  private:
    float mean(const float *plane) const {
        double sum = 0;
        for (size_t k = 0; k < crop * crop; k++)
            sum += static_cast<double>(plane[k]);
        return static_cast<float>(sum / static_cast<double>(crop * crop));
    }
};

class Broken : public Mean {
  public:
    using Mean::Mean;
    void encode(const void *, float *) override {
        throw std::runtime_error("the lamp is out");
    }
};

class Odd : public Mean {
  public:
    using Mean::Mean;
    void encode(const void *, float *) override {
        throw 7; // no std::exception
    }
};

template <class Host = Mean> static ue::Screener screener() {
    const ue::Bundle bundle(folder);
    return ue::Screener(bundle, ue::Encoder(std::make_unique<Host>(bundle.info())), 2);
}

static ue::SessionOptions options(int64_t tiles) {
    ue::SessionOptions given;
    given.width = 256 * tiles;
    given.height = 256;
    given.um_px = 0.5;
    given.name = "Präparat 7";
    return given;
}

/* A tile with a dark half, whose grey tells one from the next. */
static std::vector<unsigned char> tile(int number) {
    std::vector<unsigned char> rgb(3 * 256 * 256, 235);
    for (size_t k = 0; k < rgb.size() / 2; k++)
        rgb[k] = static_cast<unsigned char>(40 + 10 * number + static_cast<int>(k % 7));
    return rgb;
}

static void push_all(ue::Session &session, int tiles) {
    for (int k = 0; k < tiles; k++)
        session.push(tile(k), 256 * k, 0);
}

/* The status of the error that a call throws, UE_OK where it throws none; its sentence. */
template <class Call> static ue_status failed(Call &&call, std::string *sentence = nullptr) {
    try {
        call();
        return UE_OK;
    } catch (const ue::Error &error) {
        if (sentence)
            *sentence = error.what();
        CHECK(*error.what());
        return error.status();
    }
}

static bool within(const std::string &text, const char *part) {
    return text.find(part) != std::string::npos;
}

/* ---- what is checked ------------------------------------------------------------------------- */

static void bundles() {
    std::string said;
    CHECK(failed([] { ue::Bundle none("no such folder"); }, &said) != UE_OK);
    CHECK(within(said, "no such folder"));
    CHECK(failed([] { ue::Bundle cut(std::string("a\0b", 3)); }) == UE_BAD_OPTIONS);
    const ue::Bundle bundle(folder);
    CHECK(bundle.tasks().size() == bundle.info().tasks);
    CHECK(bundle.classes(0).size() == bundle.tasks()[0].classes);
    CHECK(bundle.classes(99).empty());
    ue::Bundle moved = ue::Bundle(folder);
    ue::Bundle taken = std::move(moved);
    CHECK(failed([&] { moved.info(); }) == UE_NULL_POINTER);
    moved = std::move(taken);
    CHECK(moved.info().tile_px == 256);
}

static void encoders() {
    const ue::Bundle bundle(folder);
    const ue_bundle_info info = bundle.info();
    std::string said;
    ue::Model model;
    model.path = "no.onnx";
    model.crop = info.crop_px;
    model.width = info.width;
    ue::EncoderOptions how;
    how.library = "/no/such/library.so";
    CHECK(failed([&] { ue::Encoder::onnxruntime(model, how); }, &said) == UE_NO_RUNTIME);
    CHECK(within(said, "/no/such/library.so"));
    CHECK(failed([&] { ue::Encoder::openvino(model, how); }) == UE_NO_RUNTIME);

    std::vector<float> planes(2 * 3 * info.crop_px * info.crop_px, 0.5F), tokens(2 * info.width);
    ue::Encoder encoder(std::make_unique<Mean>(info));
    encoder.encode(planes.data(), tokens.data());
    CHECK(tokens[0] == 0.5F && tokens.back() == 0.5F);
    encoder = ue::Encoder(std::make_unique<Broken>(info));
    CHECK(alive == 1);
    const auto encode = [&] { encoder.encode(planes.data(), tokens.data()); };
    CHECK(failed(encode, &said) == UE_RUN_FAILED && within(said, "the lamp is out"));
    encoder = ue::Encoder(std::make_unique<Odd>(info));
    CHECK(failed(encode, &said) == UE_RUN_FAILED && within(said, "no std::exception"));
    CHECK(failed([&] {
              auto host = std::make_unique<Mean>(info);
              host->name.push_back('\0');
              ue::Encoder refused(std::move(host));
          }) == UE_BAD_OPTIONS);
}

/* Everything that a session needs is let go before it. */
static ue::Session orphan(int64_t tiles) {
    const ue::Screener kept = screener();
    return ue::Session(kept, options(tiles));
}

static void sessions() {
    ue::Session first = orphan(4);
    ue::Session session = std::move(first);
    const ue::Grid grid = session.grid();
    CHECK(grid.rows == 1 && grid.cols == 4 && session.step() == 256);
    CHECK(session.origin(0, 3).x == 768 && session.origin(0, 3).y == 0);
    std::string said;
    const std::vector<unsigned char> small(12);
    CHECK(failed([&] { session.push(small, 0, 0); }, &said) == UE_BAD_TILE && within(said, "12"));
    CHECK(failed([&] { session.push(tile(0), 1, 0); }) == UE_BAD_TILE);
    CHECK(failed([&] { session.fail(0, 0, std::string("\0", 1)); }) == UE_BAD_OPTIONS);
    CHECK(failed([&] { session.result_json(); }) == UE_BUSY);
    CHECK(!session.estimate() && !session.came(0, 0));
    push_all(session, 2);
    CHECK(session.came(0, 0) && failed([&] { push_all(session, 1); }) == UE_BAD_TILE);
    session.skip(512, 0);
    session.fail(768, 0, "verwackelt");
    CHECK(session.progress().seen == 4);
    session.finish();

    const std::string json = session.result_json();
    CHECK(within(json, "Präparat 7") && within(json, "Prüfstand") && within(json, "verwackelt"));
    CHECK(session.answers().size() == 3 && session.answers()[0].name == std::string("cancer"));
    CHECK(session.tiles().size() >= 2 && session.tokens().size() % 384 == 0);
    CHECK(session.attention(0).size() == session.tiles().size() && session.attention(9).empty());
    CHECK(!session.reasons().empty());
    CHECK(failed([&] { session.push(tile(2), 512, 0); }) == UE_ENDED);
    session = orphan(1);
    CHECK(alive == 1); // the other one's is gone
}

/* Tiles in one colour channel order or another are the same tiles. */
static void layouts() {
    const ue::Screener kept = screener();
    std::string results[2];
    for (int way = 0; way < 2; way++) {
        ue::Session session(kept, options(1));
        const std::vector<unsigned char> rgb = tile(3);
        std::vector<unsigned char> bgr(rgb);
        for (size_t k = 0; k < rgb.size(); k++)
            bgr[k] = rgb[k / 3 * 3 + 2 - k % 3];
        if (way)
            CHECK(session.try_push({bgr.data() + 2, 768, 3, -1}, 0, 0, UE_NO_SCORE, 10000));
        else
            session.push(rgb, 0, 0);
        session.finish();
        const ue::Span<const float> tokens = session.tokens();
        results[way].assign(reinterpret_cast<const char *>(tokens.data()),
                            tokens.size() * sizeof(float));
    }
    CHECK(!results[0].empty() && results[0] == results[1]);
}

/* The compressed form of a tile, here: its number, or nothing that can be decoded. */
static void decode(const void *bytes, size_t size, unsigned char *rgb, size_t side) {
    if (size != 1)
        throw std::runtime_error("no tile");
    const std::vector<unsigned char> pixels = tile(*static_cast<const unsigned char *>(bytes));
    CHECK(pixels.size() == 3 * side * side);
    std::memcpy(rgb, pixels.data(), pixels.size());
}

static void decoders() {
    const ue::Screener kept = screener();
    ue::SessionOptions given = options(3);
    given.decoder = decode;
    ue::Session session(kept, given);
    const std::vector<unsigned char> good = {1}, bad = {1, 2};
    session.push_jpeg(good, 0, 0);
    session.push_jpeg(bad, 256, 0);
    CHECK(session.try_push_jpeg(good, 512, 0, 10000));
    session.finish();
    size_t broken = 0;
    for (const ue_tile &each : session.tiles())
        broken += each.status == UE_TILE_FAILED;
    CHECK(broken == 1);
    ue::Session deaf(kept, options(1));
    CHECK(failed([&] { deaf.push_jpeg(good, 0, 0); }) != UE_OK);
}

/* Room for a few tiles alone, and an encoder that stands still: a push would wait. */
static void waiting() {
    const ue::Screener kept = screener();
    ue::SessionOptions given = options(40);
    given.memory = 1;
    ue::Session session(kept, given);
    const std::vector<unsigned char> rgb = tile(1);
    const ue_pixels pixels = {rgb.data(), 768, 3, 1};
    gate.set(false);
    int taken = 0;
    while (taken < 40 && session.try_push(pixels, 256 * taken, 0, UE_NO_SCORE, 50))
        taken++;
    CHECK(taken < 40);
    CHECK(!session.came(256 * taken, 0));
    gate.set(true);
    for (; taken < 40; taken++)
        session.push(rgb, 256 * taken, 0);
    while (!session.try_finish(20)) {
    }
    CHECK(!session.result_json().empty());
}

static void failures() {
    const ue::Screener kept = screener<Broken>();
    ue::Session session(kept, options(4));
    std::string said;
    const ue_status status = failed(
        [&] {
            push_all(session, 4);
            session.finish();
        },
        &said);
    CHECK(status == UE_RUN_FAILED && within(said, "the lamp is out"));
    ue::SessionOptions none = options(4);
    none.um_px = -1;
    CHECK(failed([&] { ue::Session refused(kept, none); }) == UE_BAD_OPTIONS);
    none = options(4);
    none.colour = ue::Colour{"reinhard", {}, ""};
    none.colour->matrix[0] = std::nan("");
    CHECK(failed([&] { ue::Session refused(kept, none); }) != UE_OK);
}

static void colours() {
    const ue::Bundle bundle(folder);
    ue::ColourSample sample;
    CHECK(failed([&] { sample.add(tile(1), 255); }) == UE_BAD_SIZE);
    CHECK(!sample.fit(bundle).warning.empty()); // of no pixels
    for (int k = 0; k < 9; k++)
        sample.add(tile(k), 256);
    CHECK(sample.fit(bundle).mode == "reinhard" && sample.fit(bundle, "none").matrix[0] == 1);
    std::string said;
    CHECK(failed([&] { sample.fit(bundle, "sepia"); }, &said) == UE_BAD_OPTIONS);
    CHECK(within(said, "sepia"));
}

static void threads() {
    const ue::Screener kept = screener();
    ue::Session session(kept, options(32));
    std::vector<std::thread> pushing;
    for (int first = 0; first < 4; first++)
        pushing.emplace_back([&session, first] {
            for (int k = first; k < 32; k += 4)
                session.push(tile(k % 9), 256 * k, 0);
        });
    for (std::thread &each : pushing)
        each.join();
    session.finish();
    CHECK(session.tiles().size() == 32);

    ue::Session cancelled(kept, options(4));
    gate.set(false);
    push_all(cancelled, 4);
    std::thread user([&cancelled] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        cancelled.cancel();
        gate.set(true);
    });
    CHECK(failed([&] { cancelled.finish(); }) == UE_ENDED);
    user.join();
}

int main(int count, char **words) {
    CHECK(count == 2);
    folder = words[1];
    bundles();
    encoders();
    CHECK(alive == 0);
    sessions();
    layouts();
    decoders();
    waiting();
    failures();
    colours();
    threads();
    CHECK(alive == 0);
    return 0;
}
