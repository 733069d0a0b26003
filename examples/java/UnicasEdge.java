import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.ArrayList;
import java.util.List;

/**
 * Bundles, encoders and sessions for Java; unicas_edge_session.h says what each call does. All of
 * them must be closed, in any order: a screener keeps its bundle and encoder, a session its
 * screener, and a call in another thread what it works with.
 */
final class UnicasEdge {
    private UnicasEdge() {
    }

    /** A call that failed; the message is a sentence that says what to do. */
    static final class Failure extends RuntimeException {
        private static final long serialVersionUID = 1;
        /** Of ue_status in unicas_edge.h. */
        final int status;

        Failure(int status, String sentence) {
            super(sentence);
            this.status = status;
        }

        static void check(int status, String sentence) {
            if (status == Native.OK)
                return;
            boolean none = sentence == null || sentence.isEmpty();
            throw new Failure(status, none ? Native.said("ue_status_text", status) : sentence);
        }
    }

    /** Something of C that is freed when it was closed and nothing needs it any more. */
    private abstract static class Handle implements AutoCloseable {
        private final List<Handle> parents = new ArrayList<>();
        protected MemorySegment pointer = MemorySegment.NULL;
        private int users = 1;
        private boolean closed;

        abstract void free();

        final synchronized Handle acquire() {
            if (users == 0 || closed)
                throw new IllegalStateException(getClass().getSimpleName() + " is closed");
            users++;
            return this;
        }

        /** Closed only after this one. */
        final void keep(Handle parent) {
            parents.add(parent.acquire());
        }

        final void release() {
            synchronized (this) {
                if (--users > 0)
                    return;
            }
            free();
            parents.forEach(Handle::release);
        }

        /** Call a function whose first argument this is, and which returns a status. */
        final int status(String name, Object... more) {
            acquire();
            try {
                int status = Native.status(name, with(more));
                if (status != Native.BUSY)
                    Failure.check(status, Native.said("ue_session_error"));
                return status;
            } finally {
                release();
            }
        }

        final String said(String name, Object... more) {
            acquire();
            try {
                return Native.said(name, with(more));
            } finally {
                release();
            }
        }

        private Object[] with(Object... more) {
            Object[] all = new Object[more.length + 1];
            all[0] = pointer;
            System.arraycopy(more, 0, all, 1, more.length);
            return all;
        }

        @Override
        public final void close() {
            synchronized (this) {
                if (closed)
                    return;
                closed = true;
            }
            release();
        }
    }

    /** A model bundle: a folder whose files were checked against their hashes. */
    static final class Bundle extends Handle {
        final String name, version;
        /** Sides of a tile and of what the encoder sees, in pixels; numbers in a token. */
        final long tilePx, cropPx, width;
        final double umPx;
        final int dtype, tasks;

        Bundle(String folder) {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
                int status = Native.status("ue_bundle_open", Native.text(folder, arena), out);
                pointer = out.get(ValueLayout.ADDRESS, 0);
                String sentence = pointer.address() == 0 ? null
                                                         : Native.said("ue_bundle_error", pointer);
                if (status != Native.OK)
                    close();
                Failure.check(status, sentence);
                Native.Struct info = Native.Struct.of("ue_bundle_info", arena);
                Failure.check(Native.status("ue_bundle_describe", pointer, info.memory()), null);
                name = info.text("name");
                version = info.text("version");
                tilePx = info.size("tile_px");
                cropPx = info.size("crop_px");
                width = info.size("width");
                umPx = info.real("um_px");
                dtype = info.number("dtype");
                tasks = (int)info.size("tasks");
            }
        }

        @Override
        void free() {
            Native.call("ue_bundle_close", pointer);
        }
    }

    /** Which engine encodes; see ue_bundle_engine. What is left alone is left open. */
    static final class Engine {
        String backend, precision, onnxruntime, openvino, speeds;
        long threads, workers, batch, memory;
        boolean allowUnverified;
    }

    /** What turns tiles into tokens: the bundle's encoder, in an engine that may screen. */
    static final class Encoder extends Handle {
        private final Arena arena = Arena.ofShared();

        Encoder(Bundle bundle, Engine engine) {
            pointer = Native.Struct.of("ue_encoder", arena).memory();
            ((Handle)bundle).acquire();
            try (Arena scratch = Arena.ofConfined()) {
                Failure.check(Native.status("ue_bundle_encoder", ((Handle)bundle).pointer,
                                            plain(engine, scratch), pointer),
                              Native.said("ue_encoder_error"));
            } catch (RuntimeException error) {
                close();
                throw error;
            } finally {
                ((Handle)bundle).release();
            }
        }

        private static MemorySegment plain(Engine engine, Arena scratch) {
            return Native.Struct.of("ue_bundle_engine", scratch)
                .set("backend", Native.text(engine.backend, scratch))
                .set("precision", Native.text(engine.precision, scratch))
                .set("onnxruntime", Native.text(engine.onnxruntime, scratch))
                .set("openvino", Native.text(engine.openvino, scratch))
                .set("threads", engine.threads)
                .set("workers", engine.workers)
                .set("batch", engine.batch)
                .set("memory", engine.memory)
                .set("speeds", Native.text(engine.speeds, scratch))
                .set("allow_unverified", engine.allowUnverified ? 1 : 0)
                .memory();
        }

        @Override
        void free() {
            Native.call("ue_encoder_close", pointer);
            arena.close();
        }
    }

    /** A bundle's models for any number of sessions, which may run at once. */
    static final class Screener extends Handle {
        final long tilePx;
        final int tasks;

        Screener(Bundle bundle, Encoder encoder) {
            tilePx = bundle.tilePx;
            tasks = bundle.tasks;
            keep(bundle);
            keep(encoder);
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment out = arena.allocate(ValueLayout.ADDRESS);
                Object[] given = {((Handle)bundle).pointer, ((Handle)encoder).pointer,
                                  MemorySegment.NULL, out};
                int status = Native.status("ue_screener_open", given);
                String sentence = Native.said("ue_session_error");
                if (status != Native.OK)
                    close();
                Failure.check(status, sentence);
                pointer = out.get(ValueLayout.ADDRESS, 0);
            }
        }

        @Override
        void free() {
            Native.call("ue_screener_close", pointer);
        }
    }

    /** How a slide's colours are corrected: a matrix [3][4] of (R, G, B, 1), in grey levels. */
    record Colour(String mode, double[] matrix, String warning) {
    }

    /** RGB [side][side][3] of a compressed tile; throw where that cannot be had. */
    interface Decoder {
        byte[] decode(byte[] compressed, int side) throws Exception;
    }

    /** See ue_session_options; what is left alone stands for what is usual. */
    static final class Options {
        long width, height, maxTiles, memory;
        double umPx;
        Colour colour;
        Decoder decoder;
        String spool, name, path, umPxSource, sha256;
    }

    enum Decision { UNSATISFACTORY, NEGATIVE, POSITIVE }

    /** One diagnosis; the probability is NaN where no tile may carry a decision. */
    record Answer(String name, Decision decision, double probability, double threshold) {
    }

    record Grid(long rows, long cols) {
    }

    /** A tile's top left corner, in level-0 pixels. */
    record Place(long x, long y) {
    }

    /** One slide, screened while it is being scanned. All calls may come from any thread. */
    static final class Session extends Handle {
        private static final double NO_SCORE = -1;
        private static final int FOREVER = -1; // UINT32_MAX
        private final Arena arena = Arena.ofShared(); // of what C may use as long as the session
        private final long side;
        private final int tasks;

        Session(Screener screener, Options given) {
            side = screener.tilePx;
            tasks = screener.tasks;
            keep(screener);
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment out = scratch.allocate(ValueLayout.ADDRESS);
                MemorySegment options = plain(given, scratch);
                int status =
                    Native.status("ue_session_open", ((Handle)screener).pointer, options, out);
                Failure.check(status, Native.said("ue_session_error"));
                pointer = out.get(ValueLayout.ADDRESS, 0);
            } finally {
                if (pointer.address() == 0)
                    close();
            }
        }

        private MemorySegment plain(Options given, Arena scratch) {
            MemorySegment decode = given.decoder == null ? MemorySegment.NULL : stub(given.decoder);
            return Native.Struct.of("ue_session_options", scratch)
                .set("width", given.width)
                .set("height", given.height)
                .set("um_px", given.umPx)
                .set("max_tiles", given.maxTiles)
                .set("colour", plain(given.colour, scratch))
                .set("memory", given.memory)
                .set("decode", decode)
                .set("spool", Native.text(given.spool, scratch))
                .set("name", Native.text(given.name, scratch))
                .set("path", Native.text(given.path, scratch))
                .set("um_px_source", Native.text(given.umPxSource, scratch))
                .set("sha256", Native.text(given.sha256, scratch))
                .memory();
        }

        private static MemorySegment plain(Colour given, Arena scratch) {
            if (given == null)
                return MemorySegment.NULL;
            if (given.matrix().length != 12)
                throw new Failure(Native.BAD_OPTIONS, "a colour matrix has twelve numbers");
            return Native.Struct.of("ue_colour", scratch)
                .set("mode", Native.text(given.mode(), scratch))
                .set("matrix", given.matrix())
                .set("warning", Native.text(given.warning(), scratch))
                .memory();
        }

        private MemorySegment stub(Decoder decoder) {
            MethodType type = MethodType.methodType(int.class, Decoder.class, MemorySegment.class,
                                                    MemorySegment.class, long.class,
                                                    MemorySegment.class, long.class);
            try {
                return Native.pointer(MethodHandles.lookup()
                                          .findStatic(Session.class, "decode", type)
                                          .bindTo(decoder),
                                      "ippzpz", arena);
            } catch (ReflectiveOperationException error) {
                throw new IllegalStateException(error);
            }
        }

        /** What C calls; nothing may be thrown through it: that fails the tile. */
        static int decode(Decoder decoder, MemorySegment self, MemorySegment bytes, long size,
                          MemorySegment rgb, long side) {
            try {
                byte[] pixels = decoder.decode(Native.bytes(bytes, size), (int)side);
                if (pixels.length != 3 * side * side)
                    return Native.BAD_FILE;
                Native.fill(rgb, pixels);
                return Native.OK;
            } catch (Throwable error) {
                return Native.BAD_FILE;
            }
        }

        Grid grid() {
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment out = scratch.allocate(ValueLayout.JAVA_LONG, 2);
                status("ue_session_grid", out, out.asSlice(8));
                return new Grid(out.getAtIndex(ValueLayout.JAVA_LONG, 0),
                                out.getAtIndex(ValueLayout.JAVA_LONG, 1));
            }
        }

        Place origin(long row, long col) {
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment out = scratch.allocate(ValueLayout.JAVA_LONG, 2);
                status("ue_session_origin", row, col, out, out.asSlice(8));
                return new Place(out.getAtIndex(ValueLayout.JAVA_LONG, 0),
                                 out.getAtIndex(ValueLayout.JAVA_LONG, 1));
            }
        }

        /** Take in RGB [side][side][3]; waits while memory is full. */
        void push(byte[] rgb, long x, long y) {
            push(rgb, x, y, NO_SCORE);
        }

        void push(byte[] rgb, long x, long y, double score) {
            if (rgb.length != 3 * side * side)
                throw new Failure(Native.BAD_TILE, "a tile has " + 3 * side * side +
                                                       " bytes here, and this one " + rgb.length);
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment pixels =
                    Native.Struct.of("ue_pixels", scratch)
                        .set("red", scratch.allocateFrom(ValueLayout.JAVA_BYTE, rgb))
                        .set("row_stride", 3 * side)
                        .set("pixel_stride", 3L)
                        .set("channel_stride", 1L)
                        .memory();
                status("ue_session_push", pixels, x, y, score, FOREVER);
            }
        }

        /** As it was compressed; the session's decoder decodes it. */
        void pushJpeg(byte[] bytes, long x, long y) {
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment copied = scratch.allocateFrom(ValueLayout.JAVA_BYTE, bytes);
                status("ue_session_push_jpeg", copied, (long)bytes.length, x, y, FOREVER);
            }
        }

        void skip(long x, long y) {
            status("ue_session_skip", x, y);
        }

        void fail(long x, long y, String cause) {
            try (Arena scratch = Arena.ofConfined()) {
                status("ue_session_fail", x, y, Native.text(cause, scratch));
            }
        }

        boolean came(long x, long y) {
            return status("ue_session_came", x, y) == Native.OK;
        }

        /** Tiles that were encoded so far. */
        long encoded() {
            try (Arena scratch = Arena.ofConfined()) {
                Native.Struct progress = Native.Struct.of("ue_session_progress", scratch);
                status("ue_session_progress_of", progress.memory());
                return progress.size("encoded");
            }
        }

        void finish() {
            status("ue_session_finish", FOREVER);
        }

        /** End everything; a call in another thread then fails with UE_ENDED. */
        void cancel() {
            acquire();
            try {
                Native.call("ue_session_cancel", pointer);
            } finally {
                release();
            }
        }

        /** The result as JSON, null before it is finished. */
        String resultJson() {
            return said("ue_session_result_json");
        }

        List<Answer> answers() {
            List<Answer> answers = new ArrayList<>();
            try (Arena scratch = Arena.ofConfined()) {
                for (long task = 0; task < tasks; task++) {
                    Native.Struct answer = Native.Struct.of("ue_answer", scratch);
                    status("ue_session_answer", task, answer.memory());
                    answers.add(new Answer(answer.text("name"),
                                           Decision.values()[answer.number("decision")],
                                           answer.real("probability"), answer.real("threshold")));
                }
            }
            return answers;
        }

        /** Why the slide is unsatisfactory. */
        List<String> reasons() {
            List<String> reasons = new ArrayList<>();
            String reason;
            while ((reason = said("ue_session_reason", (long)reasons.size())) != null)
                reasons.add(reason);
            return reasons;
        }

        @Override
        void free() {
            Native.call("ue_session_close", pointer);
            arena.close();
        }
    }
}
