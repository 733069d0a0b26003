/*
 * unicas_edge_models.hpp: errors, spans, bundles and encoders of unicas_edge.hpp, which see.
 */
#ifndef UNICAS_EDGE_MODELS_HPP
#define UNICAS_EDGE_MODELS_HPP

#include <cstdio>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "unicas_edge_bundle.h"

namespace unicas_edge {

/* A call that failed; what() is a sentence, in UTF-8, that says what to do. */
class Error : public std::runtime_error {
  public:
    Error(ue_status status, const std::string &sentence)
        : std::runtime_error(sentence.empty() ? ue_status_text(status) : sentence),
          status_(status) {
    }
    ue_status status() const noexcept {
        return status_;
    }

  private:
    ue_status status_;
};

/* Elements that somebody else owns. */
template <class T> class Span {
  public:
    Span() = default;
    Span(T *data, size_t size) : data_(data), size_(size) {
    }
    /* Those of a vector, an array or a string, which must live as long. */
    template <class Owner, class = decltype(static_cast<T *>(std::declval<const Owner &>().data()))>
    Span(const Owner &owner) : data_(owner.data()), size_(owner.size()) {
    }
    T *data() const {
        return data_;
    }
    size_t size() const {
        return size_;
    }
    bool empty() const {
        return size_ == 0;
    }
    T *begin() const {
        return data_;
    }
    T *end() const {
        return data_ + size_;
    }
    T &operator[](size_t index) const {
        return data_[index];
    }

  private:
    T *data_ = nullptr;
    size_t size_ = 0;
};

namespace detail {

inline void check(ue_status status, const char *sentence) {
    if (status != UE_OK)
        throw Error(status, sentence ? sentence : "");
}

inline const char *text(const std::string &said) {
    if (said.find('\0') != std::string::npos)
        throw Error(UE_BAD_OPTIONS, "a text holds U+0000; leave it out");
    return said.c_str();
}

/* NULL for an empty one, which in C means that nothing was said. */
inline const char *text_if_any(const std::string &said) {
    return said.empty() ? nullptr : text(said);
}

/* What a host's own code last threw on this thread. */
inline char *thrown() noexcept {
    thread_local char sentence[512] = "";
    return sentence;
}

inline ue_status caught(ue_status status, const char *sentence) noexcept {
    std::snprintf(thrown(), 512, "%s", sentence);
    return status;
}

/* Call a host's own code from C, through which no exception may pass. */
template <class Call> ue_status guarded(ue_status otherwise, Call &&call) noexcept {
    try {
        call();
        return UE_OK;
    } catch (const Error &error) {
        return caught(error.status() == UE_OK ? otherwise : error.status(), error.what());
    } catch (const std::bad_alloc &) {
        return caught(UE_NO_MEMORY, ue_status_text(UE_NO_MEMORY));
    } catch (const std::exception &error) {
        return caught(otherwise, error.what());
    } catch (...) {
        return caught(otherwise, "it threw what is no std::exception");
    }
}

} // namespace detail

/* ---- bundles --------------------------------------------------------------------------------- */

/* A model bundle (unicas_edge_bundle.h); any number of threads may use it. */
class Bundle {
  public:
    explicit Bundle(const std::string &folder) {
        ue_bundle *opened = nullptr;
        const ue_status status = ue_bundle_open(detail::text(folder), &opened);
        handle_.reset(opened, ue_bundle_close);
        detail::check(status, opened ? ue_bundle_error(opened) : "");
    }
    Bundle(Bundle &&) noexcept = default;
    Bundle &operator=(Bundle &&) noexcept = default;

    /* Its texts are valid as long as the bundle, or a screener of it. */
    ue_bundle_info info() const {
        ue_bundle_info info{};
        info.struct_size = sizeof info;
        detail::check(ue_bundle_describe(handle_.get(), &info), "");
        return info;
    }
    std::vector<ue_bundle_task> tasks() const {
        std::vector<ue_bundle_task> tasks(info().tasks);
        for (size_t index = 0; index < tasks.size(); index++) {
            tasks[index].struct_size = sizeof tasks[index];
            detail::check(ue_bundle_describe_task(handle_.get(), index, &tasks[index]), "");
        }
        return tasks;
    }
    /* The names of a task's classes. */
    std::vector<std::string> classes(size_t task) const {
        std::vector<std::string> names;
        while (const char *name = ue_bundle_class(handle_.get(), task, names.size()))
            names.emplace_back(name);
        return names;
    }
    /* Throws where a file of the bundle changed since it was opened. */
    void check_unchanged() const {
        detail::check(ue_bundle_check_unchanged(handle_.get()), ue_bundle_error(handle_.get()));
    }
    const ue_bundle *get() const noexcept {
        return handle_.get();
    }

  private:
    friend class Screener;
    std::shared_ptr<ue_bundle> handle_;
};

/* ---- encoders -------------------------------------------------------------------------------- */

/* Which engine encodes for a bundle; see ue_bundle_engine. What is empty or 0 is left open. */
struct Engine {
    std::string backend, precision, onnxruntime, openvino;
    size_t threads = 0, workers = 0, batch = 0, memory = 0;
    std::string speeds;
    bool allow_unverified = false;
};

/* A model and what it is expected to be; see ue_encoder_source. */
struct Model {
    std::string path;
    Span<const unsigned char> bytes;      /* none: `path` is read */
    std::vector<ue_encoder_file> weights; /* beside `bytes`; stay until it is closed */
    size_t crop = 0, width = 0;
    ue_dtype dtype = UE_FLOAT32;
    std::string precision = "fp32";
};

/* See ue_encoder_options; what is left as it is here stands for what is usual. */
struct EncoderOptions {
    std::string library, provider;
    size_t threads = 0, workers = 0, batch = 0, memory = 0;
};

/* A host's own encoder; see ue_encoder. Set what it is before an Encoder is made of it. */
class HostEncoder {
  public:
    size_t batch = 1, crop = 0, width = 0, workers = 1, threads = 1;
    ue_dtype dtype = UE_FLOAT32;
    std::string name, version, precision, device;
    std::string unverified; /* why it should not screen; empty: it may */

    virtual ~HostEncoder() = default;
    /* Throw what failed, Error(UE_ENDED, ...) after an interrupt. */
    virtual void encode(const void *planes, float *tokens) = 0;
    virtual void interrupt() noexcept {
    }
};

/* What turns tiles into tokens (unicas_edge_encoder.h). */
class Encoder {
  public:
    /* The bundle's, in an engine that may screen. */
    explicit Encoder(const Bundle &bundle, const Engine &engine = {}) : Encoder() {
        const ue_bundle_engine wanted = plain(engine);
        detail::check(ue_bundle_encoder(bundle.get(), &wanted, table_.get()), ue_encoder_error());
    }
    static Encoder onnxruntime(const Model &model, const EncoderOptions &options = {}) {
        return opened(ue_encoder_open_onnxruntime, model, options);
    }
    static Encoder openvino(const Model &model, const EncoderOptions &options = {}) {
        return opened(ue_encoder_open_openvino, model, options);
    }
    explicit Encoder(std::unique_ptr<HostEncoder> host) : Encoder() {
        table_->batch = host->batch;
        table_->crop = host->crop;
        table_->width = host->width;
        table_->workers = host->workers;
        table_->threads = host->threads;
        table_->dtype = host->dtype;
        table_->name = detail::text(host->name);
        table_->version = detail::text(host->version);
        table_->precision = detail::text(host->precision);
        table_->device = detail::text(host->device);
        table_->unverified = detail::text_if_any(host->unverified);
        table_->encode = host_encode;
        table_->interrupt = host_interrupt;
        table_->error = host_error;
        table_->destroy = host_destroy;
        table_->self = host.release();
    }
    Encoder(Encoder &&) noexcept = default;
    Encoder &operator=(Encoder &&) noexcept = default;

    const ue_encoder &table() const noexcept {
        return *table_;
    }
    /* Where evidence speaks for it, though the library cannot know: it may screen. */
    void vouch() noexcept {
        table_->unverified = nullptr;
    }
    void encode(const void *planes, float *tokens) const {
        detail::check(ue_encoder_encode(table_.get(), planes, tokens), ue_encoder_error());
    }

  private:
    friend class Screener;
    using Open = ue_status (*)(const ue_encoder_source *, const ue_encoder_options *, ue_encoder *);

    Encoder() : table_(new ue_encoder{}, close) {
        table_->struct_size = sizeof *table_;
    }
    static void close(ue_encoder *table) noexcept {
        ue_encoder_close(table);
        delete table;
    }
    static ue_bundle_engine plain(const Engine &engine) {
        ue_bundle_engine wanted{};
        wanted.struct_size = sizeof wanted;
        wanted.backend = detail::text_if_any(engine.backend);
        wanted.precision = detail::text_if_any(engine.precision);
        wanted.onnxruntime = detail::text_if_any(engine.onnxruntime);
        wanted.openvino = detail::text_if_any(engine.openvino);
        wanted.threads = engine.threads;
        wanted.workers = engine.workers;
        wanted.batch = engine.batch;
        wanted.memory = engine.memory;
        wanted.speeds = detail::text_if_any(engine.speeds);
        wanted.allow_unverified = engine.allow_unverified;
        return wanted;
    }
    static Encoder opened(Open open, const Model &model, const EncoderOptions &given) {
        Encoder encoder;
        ue_encoder_source source{};
        ue_encoder_options options{};
        source.struct_size = sizeof source;
        source.path = detail::text_if_any(model.path);
        source.bytes = model.bytes.data();
        source.size = model.bytes.size();
        source.weights = model.weights.data();
        source.weights_count = model.weights.size();
        source.crop = model.crop;
        source.width = model.width;
        source.dtype = model.dtype;
        source.precision = detail::text(model.precision);
        options.struct_size = sizeof options;
        options.library = detail::text_if_any(given.library);
        options.provider = detail::text_if_any(given.provider);
        options.threads = given.threads;
        options.workers = given.workers;
        options.batch = given.batch;
        options.memory = given.memory;
        detail::check(open(&source, &options, encoder.table_.get()), ue_encoder_error());
        return encoder;
    }
    static HostEncoder *host(void *self) noexcept {
        return static_cast<HostEncoder *>(self);
    }
    static ue_status host_encode(void *self, const void *planes, float *tokens) noexcept {
        return detail::guarded(UE_RUN_FAILED, [&] { host(self)->encode(planes, tokens); });
    }
    static void host_interrupt(void *self) noexcept {
        host(self)->interrupt();
    }
    static const char *host_error(void *) noexcept {
        return detail::thrown();
    }
    static void host_destroy(void *self) noexcept {
        delete host(self);
    }

    std::shared_ptr<ue_encoder> table_; /* where it lies, a screener looks for it */
};

} // namespace unicas_edge

#endif
