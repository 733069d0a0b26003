// The C# face as a host uses it: check.exe BUNDLE RUNTIME. Says what went wrong; 0: nothing did.
using System;
using System.IO;
using System.Linq;
using System.Threading;
using UnicasEdge;

internal static class Check {
    private static Bundle bundle;
    private static string folder, runtime;

    private static int Main(string[] words) {
        try {
            All(words[0], words[1]);
            return 0;
        } catch (Exception error) {
            Console.WriteLine(error);
            return 1;
        }
    }

    private static void All(string given, string library) {
        folder = given;
        runtime = library;
        Bundles();
        bundle = new Bundle(folder);
        Encoders();
        Sessions();
        Decoders();
        Cancelling();
        Forgotten();
        bundle.Dispose();
    }

    private static void That(bool holds, string what) {
        if (!holds)
            throw new InvalidOperationException(what);
    }

    private static UnicasException Failed(Action call) {
        try {
            call();
        } catch (UnicasException error) {
            That(error.Message.Length > 0, "an error without a sentence");
            return error;
        }
        throw new InvalidOperationException("did not fail");
    }

    private static void Bundles() {
        That(Failed(() => new Bundle("no such folder ä")).Message.Contains("no such folder ä"),
             "the folder is not named");
        That(Failed(() => new Bundle("a\0b")).Status == Status.BadOptions, "a text was cut");
        using (var opened = new Bundle(folder))
            That(opened.TilePx == 256 && opened.UmPx == 0.5 && opened.Tasks == 3, "bundle");
        var disposed = new Bundle(folder);
        disposed.Dispose();
        try {
            new Screener(disposed, NewEncoder(disposed)).Dispose();
            That(false, "a disposed bundle was used");
        } catch (ObjectDisposedException) {
        }
    }

    private static Encoder NewEncoder(Bundle of) {
        return new Encoder(of, new Engine { Backend = "onnxruntime", Precision = "fp32",
                                            Onnxruntime = runtime, Threads = 1 });
    }

    private static void Encoders() {
        var engine = new Engine { Backend = "onnxruntime", Onnxruntime = "/no/such.so" };
        UnicasException error = Failed(() => new Encoder(bundle, engine));
        That(error.Status == Status.NoRuntime && error.Message.Contains("/no/such.so"), "runtime");
        engine.Backend = "none";
        That(Failed(() => new Encoder(bundle, engine)).Status == Status.BadOptions, "backend");
    }

    private static SessionOptions Options(int tiles) {
        return new SessionOptions { Width = 256 * tiles, Height = 256, UmPx = bundle.UmPx,
                                    Name = "Präparat 7 – 標本" };
    }

    // Everything that it needs is disposed before it.
    private static Session Orphan(SessionOptions options) {
        var own = new Bundle(folder);
        Encoder encoder = NewEncoder(own);
        var screener = new Screener(own, encoder);
        own.Dispose();
        encoder.Dispose();
        var session = new Session(screener, options);
        screener.Dispose();
        return session;
    }

    private static byte[] Tile(int number) {
        return Enumerable.Range(0, 3 * 256 * 256)
            .Select(k => (byte)(k < 98304 ? 40 + 10 * number + k % 7 : 235))
            .ToArray();
    }

    private static void Sessions() {
        Session session = Orphan(Options(3));
        session.Grid(out long rows, out long cols);
        session.Origin(0, 2, out long x, out long y);
        That(rows == 1 && cols == 3 && x == 512 && y == 0, "grid");
        That(session.ResultJson() == null && !session.Came(0, 0), "nothing came");
        That(Failed(() => session.Push(new byte[12], 0, 0)).Status == Status.BadTile, "size");
        session.Push(Tile(1), 0, 0);
        That(Failed(() => session.Push(Tile(1), 0, 0)).Status == Status.BadTile, "twice");
        session.Skip(256, 0);
        session.Fail(512, 0, "verwackelt – ブレ");
        session.Progress(out long seen, out long _);
        That(seen == 3 && session.Came(512, 0), "progress");
        session.Finish();
        string json = session.ResultJson();
        That(json.Contains("Präparat 7 – 標本") && json.Contains("verwackelt – ブレ"), "UTF-8");
        That(session.Answers().Count == 3 && session.Answers()[0].Name == "cancer", "answers");
        That(session.Reasons().Count > 0, "reasons");
        session.Dispose();
        session.Dispose();
        try {
            session.Finish();
            That(false, "a disposed session was used");
        } catch (ObjectDisposedException) {
        }
    }

    private static void Decoders() {
        SessionOptions options = Options(2);
        options.Decoder = (bytes, side) => {
            That(side == 256, "side");
            if (bytes.Length != 1)
                throw new InvalidDataException("no tile");
            return Tile(bytes[0]);
        };
        using (Session session = Orphan(options)) {
            options = null;
            GC.Collect();
            session.PushJpeg(new byte[] { 1 }, 0, 0);
            session.PushJpeg(new byte[] { 1, 2 }, 256, 0);
            session.Finish();
            That(session.ResultJson().Contains("\"failed\":1") ||
                     session.ResultJson().Contains("\"failed\": 1"),
                 "what cannot be decoded failed");
        }
    }

    private static void Cancelling() {
        using (Session session = Orphan(Options(64))) {
            for (int k = 0; k < 64; k++)
                session.Push(Tile(k % 9), 256 * k, 0);
            var user = new Thread(session.Cancel);
            user.Start();
            UnicasException ended = Failed(session.Finish);
            user.Join();
            That(ended.Status == Status.Ended, "cancelled");
        }
    }

    // What nobody disposed is collected, in whatever order.
    private static void Forgotten() {
        for (int k = 0; k < 3; k++)
            Orphan(Options(1)).Push(Tile(k), 0, 0);
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }
}
