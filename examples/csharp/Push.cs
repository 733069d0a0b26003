// Screens the tiles of a folder, and prints each diagnosis.
//
//     push.exe BUNDLE RUNTIME TILES [RESULT]
//
// RUNTIME is ONNX Runtime's shared library, "-" where it has its usual name. TILES holds tiles as
// X_Y.ppm, at level-0 (X, Y), at the bundle's um/px. RESULT is where the result's JSON is written.
// `push.exe --layouts` prints how the structs lie in memory. Exit codes: 0, 1 failure, 2 usage.
using System;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using UnicasEdge;
using Encoder = UnicasEdge.Encoder; // System.Text has one, too

internal static class Push {
    private static int Main(string[] words) {
        if (words.Length == 1 && words[0] == "--layouts")
            return Layouts();
        if (words.Length < 3 || words.Length > 4) {
            Console.Error.WriteLine("usage: push.exe BUNDLE RUNTIME TILES [RESULT]");
            return 2;
        }
        try {
            Screen(words[0], words[1], words[2], words.Length == 4 ? words[3] : null);
            return 0;
        } catch (Exception error) when (error is UnicasException || error is IOException ||
                                      error is DllNotFoundException) {
            Console.Error.WriteLine("push: " + error.Message);
            return 1;
        }
    }

    private static void Screen(string folder, string runtime, string tiles, string result) {
        using (var bundle = new Bundle(folder))
        using (var encoder = new Encoder(bundle, Reference(runtime)))
        using (var screener = new Screener(bundle, encoder))
        using (var session = new Session(screener, Options(bundle, tiles))) {
            Scan(session, tiles, bundle.TilePx);
            session.Finish();
            if (result != null)
                File.WriteAllText(result, session.ResultJson() + "\n", new UTF8Encoding(false));
            Print(session);
        }
    }

    // The engine that may always screen.
    private static Engine Reference(string runtime) {
        return new Engine { Backend = "onnxruntime", Precision = "fp32",
                            Onnxruntime = runtime == "-" ? null : runtime };
    }

    // The slide is as large as its tiles reach.
    private static SessionOptions Options(Bundle bundle, string tiles) {
        var options = new SessionOptions { UmPx = bundle.UmPx };
        foreach (string file in Directory.GetFiles(tiles, "*.ppm")) {
            Match place = Regex.Match(Path.GetFileName(file), @"^(\d{1,9})_(\d{1,9})\.ppm$");
            if (!place.Success)
                continue;
            options.Width = Math.Max(options.Width, Side(place, 1) + bundle.TilePx);
            options.Height = Math.Max(options.Height, Side(place, 2) + bundle.TilePx);
        }
        return options;
    }

    private static long Side(Match place, int group) {
        return long.Parse(place.Groups[group].Value, CultureInfo.InvariantCulture);
    }

    private static void Scan(Session session, string tiles, int side) {
        session.Grid(out long rows, out long cols);
        for (long row = 0; row < rows; row++)
            for (long col = 0; col < cols; col++) {
                session.Origin(row, col, out long x, out long y);
                string file = Path.Combine(tiles, x + "_" + y + ".ppm");
                if (!File.Exists(file))
                    session.Skip(x, y);
                else if (Pixels(File.ReadAllBytes(file), side) is byte[] rgb)
                    session.Push(rgb, x, y);
                else
                    session.Fail(x, y, "is no PPM of " + side + " pixels a side");
            }
    }

    private static byte[] Pixels(byte[] file, int side) {
        byte[] head = Encoding.ASCII.GetBytes("P6\n" + side + " " + side + "\n255\n");
        var rgb = new byte[3 * side * side];
        if (file.Length != head.Length + rgb.Length)
            return null;
        for (int k = 0; k < head.Length; k++)
            if (file[k] != head[k])
                return null;
        Array.Copy(file, head.Length, rgb, 0, rgb.Length);
        return rgb;
    }

    private static void Print(Session session) {
        foreach (Answer answer in session.Answers()) {
            string probability = answer.Probability.ToString("R", CultureInfo.InvariantCulture);
            string decision = answer.Decision.ToString().ToLowerInvariant();
            Console.WriteLine(answer.Name + " " + decision + " " + probability);
        }
        foreach (string reason in session.Reasons())
            Console.WriteLine("unsatisfactory: " + reason);
    }

    // In the lines of csrc/abi.txt.
    private static int Layouts() {
        Type native = typeof(Session).Assembly.GetType("UnicasEdge.Native");
        foreach (Type type in native.GetNestedTypes()) {
            if (!type.IsValueType)
                continue;
            Console.WriteLine("struct " + type.Name + " " + Marshal.SizeOf(type));
            foreach (FieldInfo field in type.GetFields())
                Console.WriteLine("field " + type.Name + "." + field.Name + " " +
                                  Marshal.OffsetOf(type, field.Name));
        }
        foreach (Status status in Enum.GetValues(typeof(Status)))
            Console.WriteLine("constant UE" + InC(status.ToString()) + " " + (int)status);
        return 0;
    }

    // _BAD_TILE of BadTile.
    private static string InC(string name) {
        return Regex.Replace(name, "[A-Z]", "_$0").ToUpperInvariant();
    }
}
