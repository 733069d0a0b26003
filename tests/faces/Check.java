import java.util.function.BooleanSupplier;

/** The Java face as a host uses it: Check BUNDLE RUNTIME. Throws what went wrong. */
final class Check {
    private static String folder, runtime;

    private Check() {
    }

    public static void main(String[] words) throws InterruptedException {
        folder = words[0];
        runtime = words[1];
        bundles();
        encoders();
        sessions();
        decoders();
        cancelling();
    }

    private static void that(boolean holds, String what) {
        if (!holds)
            throw new AssertionError(what);
    }

    private static UnicasEdge.Failure failed(Runnable call) {
        try {
            call.run();
        } catch (UnicasEdge.Failure failure) {
            that(!failure.getMessage().isEmpty(), "a failure without a sentence");
            return failure;
        }
        throw new AssertionError("did not fail");
    }

    private static boolean closed(BooleanSupplier call) {
        try {
            call.getAsBoolean();
            return false;
        } catch (IllegalStateException error) {
            return true;
        }
    }

    private static void bundles() {
        var none = failed(() -> new UnicasEdge.Bundle("no such folder ä"));
        that(none.getMessage().contains("no such folder ä"), "the folder is not named");
        that(failed(() -> new UnicasEdge.Bundle("a\0b")).status == Native.BAD_OPTIONS, "cut");
        try (var bundle = new UnicasEdge.Bundle(folder)) {
            that(bundle.tilePx == 256 && bundle.umPx == 0.5 && bundle.tasks == 3, "bundle");
            that(!bundle.name.isEmpty() && !bundle.version.isEmpty(), "names");
        }
    }

    private static UnicasEdge.Encoder encoder(UnicasEdge.Bundle bundle) {
        return new UnicasEdge.Encoder(bundle, engine("onnxruntime", runtime));
    }

    private static UnicasEdge.Engine engine(String backend, String library) {
        var engine = new UnicasEdge.Engine();
        engine.backend = backend;
        engine.precision = "fp32";
        engine.onnxruntime = library;
        engine.threads = 1;
        return engine;
    }

    private static void encoders() {
        try (var bundle = new UnicasEdge.Bundle(folder)) {
            var none = engine("onnxruntime", "/no/such.so");
            String said = failed(() -> new UnicasEdge.Encoder(bundle, none)).getMessage();
            that(said.contains("/no/such.so"), "the runtime is not named");
            none.backend = "none";
            that(failed(() -> new UnicasEdge.Encoder(bundle, none)).status == Native.BAD_OPTIONS,
                 "there is no such backend");
            var encoder = encoder(bundle);
            bundle.close();
            that(closed(() -> new UnicasEdge.Screener(bundle, encoder) != null), "closed bundle");
            encoder.close();
        }
    }

    private static UnicasEdge.Options options(int tiles) {
        var options = new UnicasEdge.Options();
        options.width = 256L * tiles;
        options.height = 256;
        options.umPx = 0.5;
        options.name = "Präparat 7 – 標本";
        return options;
    }

    /** Everything that it needs is closed before it. */
    private static UnicasEdge.Session orphan(UnicasEdge.Options options) {
        try (var bundle = new UnicasEdge.Bundle(folder); var encoder = encoder(bundle);
             var screener = new UnicasEdge.Screener(bundle, encoder)) {
            return new UnicasEdge.Session(screener, options);
        }
    }

    private static byte[] tile(int number) {
        byte[] rgb = new byte[3 * 256 * 256];
        for (int k = 0; k < rgb.length; k++)
            rgb[k] = (byte)(k < rgb.length / 2 ? 40 + 10 * number + k % 7 : 235);
        return rgb;
    }

    private static void sessions() {
        var session = orphan(options(3));
        that(session.grid().equals(new UnicasEdge.Grid(1, 3)), "grid");
        that(session.origin(0, 2).equals(new UnicasEdge.Place(512, 0)), "origin");
        that(session.resultJson() == null && !session.came(0, 0), "nothing came");
        that(failed(() -> session.push(new byte[12], 0, 0)).status == Native.BAD_TILE, "size");
        session.push(tile(1), 0, 0);
        that(failed(() -> session.push(tile(1), 0, 0)).status == Native.BAD_TILE, "twice");
        session.skip(256, 0);
        session.fail(512, 0, "verwackelt – ブレ");
        that(session.came(512, 0) && session.encoded() <= 1, "progress");
        session.finish();
        String json = session.resultJson();
        that(json.contains("Präparat 7 – 標本") && json.contains("verwackelt – ブレ"), "UTF-8");
        that(session.answers().size() == 3, "answers");
        that(session.answers().get(0).name().equals("cancer"), "the name of a task");
        that(!session.reasons().isEmpty(), "reasons");
        session.close();
        session.close();
        that(closed(() -> session.came(0, 0)), "a closed session was used");
    }

    private static void decoders() {
        var options = options(2);
        options.decoder = (bytes, side) -> {
            if (bytes.length != 1 || side != 256)
                throw new java.io.IOException("no tile");
            return tile(bytes[0]);
        };
        try (var session = orphan(options)) {
            System.gc();
            session.pushJpeg(new byte[] {1}, 0, 0);
            session.pushJpeg(new byte[] {1, 2}, 256, 0);
            session.finish();
            that(session.resultJson().replace(" ", "").contains("\"failed\":1"), "decoded");
        }
    }

    private static void cancelling() throws InterruptedException {
        try (var session = orphan(options(64))) {
            for (int k = 0; k < 64; k++)
                session.push(tile(k % 9), 256L * k, 0);
            Thread user = new Thread(session::cancel);
            user.start();
            that(failed(session::finish).status == Native.ENDED, "cancelled");
            user.join();
        }
    }
}
