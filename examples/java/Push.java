import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Screens the tiles of a folder, and prints each diagnosis.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED Push.java BUNDLE RUNTIME TILES [RESULT]</pre>
 *
 * RUNTIME is ONNX Runtime's shared library, "-" where it has its usual name. TILES holds tiles as
 * X_Y.ppm, at level-0 (X, Y), at the bundle's um/px. RESULT is where the result's JSON is written.
 * {@code Push.java --layouts} prints how the structs lie in memory. Exit codes: 0, 1 failure, 2
 * usage.
 */
final class Push {
    private static final Pattern NAME = Pattern.compile("(\\d{1,9})_(\\d{1,9})\\.ppm");

    private Push() {
    }

    public static void main(String[] words) {
        System.exit(run(words));
    }

    private static int run(String[] words) {
        if (words.length == 1 && words[0].equals("--layouts"))
            return Native.printLayouts();
        if (words.length < 3 || words.length > 4) {
            System.err.println("usage: Push BUNDLE RUNTIME TILES [RESULT]");
            return 2;
        }
        try {
            screen(words[0], words[1], Path.of(words[2]), words.length == 4 ? words[3] : null);
            return 0;
        } catch (UnicasEdge.Failure | UnsatisfiedLinkError | IOException error) {
            System.err.println("push: " + error.getMessage());
            return 1;
        }
    }

    private static void screen(String folder, String runtime, Path tiles, String result)
        throws IOException {
        try (var bundle = new UnicasEdge.Bundle(folder);
             var encoder = new UnicasEdge.Encoder(bundle, reference(runtime));
             var screener = new UnicasEdge.Screener(bundle, encoder);
             var session = new UnicasEdge.Session(screener, options(bundle, tiles))) {
            scan(session, tiles, (int)bundle.tilePx);
            session.finish();
            if (result != null)
                Files.writeString(Path.of(result), session.resultJson() + "\n");
            print(session);
        }
    }

    /** The engine that may always screen. */
    private static UnicasEdge.Engine reference(String runtime) {
        var engine = new UnicasEdge.Engine();
        engine.backend = "onnxruntime";
        engine.precision = "fp32";
        engine.onnxruntime = runtime.equals("-") ? null : runtime;
        return engine;
    }

    /** The slide is as large as its tiles reach. */
    private static UnicasEdge.Options options(UnicasEdge.Bundle bundle, Path tiles)
        throws IOException {
        var options = new UnicasEdge.Options();
        options.umPx = bundle.umPx;
        try (DirectoryStream<Path> files = Files.newDirectoryStream(tiles, "*.ppm")) {
            for (Path file : files) {
                Matcher place = NAME.matcher(file.getFileName().toString());
                if (!place.matches())
                    continue;
                long right = Long.parseLong(place.group(1)) + bundle.tilePx;
                long below = Long.parseLong(place.group(2)) + bundle.tilePx;
                options.width = Math.max(options.width, right);
                options.height = Math.max(options.height, below);
            }
        }
        return options;
    }

    private static void scan(UnicasEdge.Session session, Path tiles, int side) throws IOException {
        UnicasEdge.Grid grid = session.grid();
        for (long row = 0; row < grid.rows(); row++)
            for (long col = 0; col < grid.cols(); col++)
                deliver(session, session.origin(row, col), tiles, side);
    }

    private static void deliver(UnicasEdge.Session session, UnicasEdge.Place place, Path tiles,
                                int side) throws IOException {
        Path file = tiles.resolve(place.x() + "_" + place.y() + ".ppm");
        if (!Files.exists(file)) {
            session.skip(place.x(), place.y());
            return;
        }
        byte[] rgb = pixels(Files.readAllBytes(file), side);
        if (rgb == null)
            session.fail(place.x(), place.y(), "is no PPM of " + side + " pixels a side");
        else
            session.push(rgb, place.x(), place.y());
    }

    private static byte[] pixels(byte[] file, int side) {
        String wanted = "P6\n" + side + " " + side + "\n255\n";
        byte[] head = wanted.getBytes(StandardCharsets.US_ASCII);
        boolean right = file.length == head.length + 3 * side * side &&
                        Arrays.equals(file, 0, head.length, head, 0, head.length);
        return right ? Arrays.copyOfRange(file, head.length, file.length) : null;
    }

    private static void print(UnicasEdge.Session session) {
        for (UnicasEdge.Answer answer : session.answers()) {
            String decision = answer.decision().name().toLowerCase(Locale.ROOT);
            System.out.println(answer.name() + " " + decision + " " + answer.probability());
        }
        for (String reason : session.reasons())
            System.out.println("unsatisfactory: " + reason);
    }
}
