// Bundles, encoders and sessions for C#; unicas_edge_session.h says what each call does. Disposing
// is safe in any order: a screener keeps its bundle and encoder, a session its screener.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace UnicasEdge {

// A call that failed; the message is a sentence that says what to do.
public sealed class UnicasException : Exception {
    public readonly Status Status;

    public UnicasException(Status status, string sentence) : base(sentence) {
        Status = status;
    }

    internal static void Check(Status status, Func<IntPtr> sentence) {
        if (status == Status.Ok)
            return;
        string said = Utf8.Text(sentence());
        bool none = string.IsNullOrEmpty(said);
        throw new UnicasException(status, none ? Utf8.Text(Native.ue_status_text(status)) : said);
    }
}

// A model bundle: a folder whose files were checked against their hashes.
public sealed class Bundle : IDisposable {
    internal readonly BundleHandle handle;
    internal readonly Native.ue_bundle_info info;

    public Bundle(string folder) {
        Status status = Native.ue_bundle_open(Utf8.Bytes(folder), out handle);
        try {
            UnicasException.Check(status, () => handle.IsInvalid ? IntPtr.Zero
                                                                 : Native.ue_bundle_error(handle));
            info.struct_size = Native.SizeOf<Native.ue_bundle_info>();
            UnicasException.Check(Native.ue_bundle_describe(handle, ref info), () => IntPtr.Zero);
        } catch {
            handle.Dispose();
            throw;
        }
        Name = Utf8.Text(info.name);
        Version = Utf8.Text(info.version);
    }

    public string Name { get; }
    public string Version { get; }
    // Sides of a tile in pixels, and micrometres of one.
    public int TilePx => (int)info.tile_px;
    public double UmPx => info.um_px;
    public int Tasks => (int)info.tasks;

    public void Dispose() {
        handle.Dispose();
    }
}

// Which engine encodes; see ue_bundle_engine. What is left alone is left open.
public sealed class Engine {
    public string Backend, Precision, Onnxruntime, Openvino, Speeds;
    public int Threads, Workers, Batch;
    public long Memory;
    public bool AllowUnverified;
}

// What turns tiles into tokens: the bundle's encoder, in an engine that may screen.
public sealed class Encoder : IDisposable {
    internal readonly EncoderHandle handle = EncoderHandle.Empty();

    public Encoder(Bundle bundle, Engine engine) {
        using (var scratch = new Scratch()) {
            var wanted = new Native.ue_bundle_engine {
                struct_size = Native.SizeOf<Native.ue_bundle_engine>(),
                backend = scratch.Text(engine.Backend),
                precision = scratch.Text(engine.Precision),
                onnxruntime = scratch.Text(engine.Onnxruntime),
                openvino = scratch.Text(engine.Openvino),
                threads = (UIntPtr)(uint)engine.Threads,
                workers = (UIntPtr)(uint)engine.Workers,
                batch = (UIntPtr)(uint)engine.Batch,
                memory = (UIntPtr)(ulong)engine.Memory,
                speeds = scratch.Text(engine.Speeds),
                allow_unverified = engine.AllowUnverified ? 1 : 0
            };
            Status status = Native.ue_bundle_encoder(bundle.handle, ref wanted, handle);
            UnicasException.Check(status, Native.ue_encoder_error);
        }
    }

    public void Dispose() {
        handle.Dispose();
    }
}

// A bundle's models for any number of sessions, which may run at once.
public sealed class Screener : IDisposable {
    internal readonly ScreenerHandle handle;
    internal readonly int tilePx, tasks;

    public Screener(Bundle bundle, Encoder encoder) {
        Status status =
            Native.ue_screener_open(bundle.handle, encoder.handle, IntPtr.Zero, out handle);
        UnicasException.Check(status, Native.ue_session_error);
        handle.Keep(bundle.handle);
        handle.Keep(encoder.handle);
        tilePx = bundle.TilePx;
        tasks = bundle.Tasks;
    }

    public void Dispose() {
        handle.Dispose();
    }
}

// How a slide's colours are corrected: a matrix [3][4] of (R, G, B, 1), in grey levels.
public sealed class Colour {
    public string Mode, Warning;
    public double[] Matrix = new double[12];
}

// RGB [side][side][3] of a compressed tile; throw where that cannot be had.
public delegate byte[] Decoder(byte[] compressed, int side);

// See ue_session_options; what is left alone stands for what is usual.
public sealed class SessionOptions {
    public long Width, Height;
    public double UmPx;
    public int MaxTiles;
    public Colour Colour;
    public long Memory;
    public Decoder Decoder;
    public string Spool, Name, Path, UmPxSource, Sha256;
}

public enum Decision { Unsatisfactory, Negative, Positive }

// One diagnosis; the probability is NaN where no tile may carry a decision.
public sealed class Answer {
    public string Name;
    public Decision Decision;
    public double Probability, Threshold;
}

// One slide, screened while it is being scanned. All calls may come from any thread.
public sealed class Session : IDisposable {
    private const double NoScore = -1.0;
    private readonly SessionHandle handle;
    private readonly int side, tasks;

    public Session(Screener screener, SessionOptions given) {
        side = screener.tilePx;
        tasks = screener.tasks;
        Native.Decode decode = given.Decoder == null ? null : Calling(given.Decoder);
        using (var scratch = new Scratch()) {
            Native.ue_session_options options = Plain(given, decode, scratch);
            Told(Native.ue_session_open(screener.handle, ref options, out handle));
        }
        handle.Keep(screener.handle);
        if (decode != null)
            handle.Keep(decode);
    }

    private static Native.ue_session_options Plain(SessionOptions given, Native.Decode decode,
                                                   Scratch scratch) {
        return new Native.ue_session_options {
            struct_size = Native.SizeOf<Native.ue_session_options>(),
            width = given.Width,
            height = given.Height,
            um_px = given.UmPx,
            max_tiles = (UIntPtr)(uint)given.MaxTiles,
            colour = given.Colour == null ? IntPtr.Zero : Plain(given.Colour, scratch),
            memory = (UIntPtr)(ulong)given.Memory,
            decode = decode == null ? IntPtr.Zero : Marshal.GetFunctionPointerForDelegate(decode),
            spool = scratch.Text(given.Spool),
            name = scratch.Text(given.Name),
            path = scratch.Text(given.Path),
            um_px_source = scratch.Text(given.UmPxSource),
            sha256 = scratch.Text(given.Sha256)
        };
    }

    private static IntPtr Plain(Colour given, Scratch scratch) {
        if (given.Matrix == null || given.Matrix.Length != 12)
            throw new UnicasException(Status.BadOptions, "a colour matrix has twelve numbers");
        return scratch.Struct(new Native.ue_colour {
            struct_size = Native.SizeOf<Native.ue_colour>(),
            mode = scratch.Text(given.Mode),
            matrix = given.Matrix,
            warning = scratch.Text(given.Warning)
        });
    }

    // No exception may pass through C: what the decoder throws fails the tile.
    private static Native.Decode Calling(Decoder decoder) {
        return (self, bytes, size, rgb, tileSide) => {
            try {
                var compressed = new byte[checked((int)size)];
                Marshal.Copy(bytes, compressed, 0, compressed.Length);
                byte[] pixels = decoder(compressed, (int)tileSide);
                if (pixels.Length != 3 * (int)tileSide * (int)tileSide)
                    return Status.BadFile;
                Marshal.Copy(pixels, 0, rgb, pixels.Length);
                return Status.Ok;
            } catch (Exception) {
                return Status.BadFile;
            }
        };
    }

    private static void Told(Status status) {
        UnicasException.Check(status, Native.ue_session_error);
    }

    // ---- tiles --------------------------------------------------------------------------------

    public void Grid(out long rows, out long cols) {
        Told(Native.ue_session_grid(handle, out UIntPtr r, out UIntPtr c));
        rows = (long)r;
        cols = (long)c;
    }

    public void Origin(long row, long col, out long x, out long y) {
        Told(Native.ue_session_origin(handle, (UIntPtr)(ulong)row, (UIntPtr)(ulong)col, out x,
                                      out y));
    }

    // Take in RGB [side][side][3]; waits while memory is full.
    public void Push(byte[] rgb, long x, long y, double score = NoScore) {
        if (rgb.Length != 3 * side * side)
            throw new UnicasException(Status.BadTile, "a tile has " + 3 * side * side +
                                                          " bytes here, and this one " +
                                                          rgb.Length);
        GCHandle pinned = GCHandle.Alloc(rgb, GCHandleType.Pinned);
        try {
            var pixels = new Native.ue_pixels {
                red = pinned.AddrOfPinnedObject(),
                row_stride = (IntPtr)(3 * side),
                pixel_stride = (IntPtr)3,
                channel_stride = (IntPtr)1
            };
            Told(Native.ue_session_push(handle, ref pixels, x, y, score, Native.Forever));
        } finally {
            pinned.Free();
        }
    }

    // As it was compressed; the session's Decoder decodes it.
    public void PushJpeg(byte[] bytes, long x, long y) {
        Told(Native.ue_session_push_jpeg(handle, bytes, (UIntPtr)(uint)bytes.Length, x, y,
                                         Native.Forever));
    }

    public void Skip(long x, long y) {
        Told(Native.ue_session_skip(handle, x, y));
    }

    public void Fail(long x, long y, string cause) {
        Told(Native.ue_session_fail(handle, x, y, Utf8.Bytes(cause)));
    }

    public bool Came(long x, long y) {
        Status status = Native.ue_session_came(handle, x, y);
        if (status != Status.Busy)
            Told(status);
        return status == Status.Ok;
    }

    // Tiles that were pushed, skipped or failed, and tiles that were encoded.
    public void Progress(out long seen, out long encoded) {
        Told(Native.ue_session_progress_of(handle, out Native.ue_session_progress progress));
        seen = (long)progress.seen;
        encoded = (long)progress.encoded;
    }

    // ---- the result ---------------------------------------------------------------------------

    public void Finish() {
        Told(Native.ue_session_finish(handle, Native.Forever));
    }

    // End everything; a call in another thread then throws Status.Ended.
    public void Cancel() {
        Native.ue_session_cancel(handle);
    }

    // The result as JSON, null before Finish.
    public string ResultJson() {
        return Utf8.Text(Native.ue_session_result_json(handle));
    }

    public List<Answer> Answers() {
        var answers = new List<Answer>();
        for (int task = 0; task < tasks; task++) {
            var answer = new Native.ue_answer { struct_size = Native.SizeOf<Native.ue_answer>() };
            Told(Native.ue_session_answer(handle, (UIntPtr)(uint)task, ref answer));
            answers.Add(new Answer {
                Name = Utf8.Text(answer.name),
                Decision = (Decision)answer.decision,
                Probability = answer.probability,
                Threshold = answer.threshold
            });
        }
        return answers;
    }

    // Why the slide is unsatisfactory.
    public List<string> Reasons() {
        var reasons = new List<string>();
        string reason;
        while ((reason = Reason(reasons.Count)) != null)
            reasons.Add(reason);
        return reasons;
    }

    private string Reason(int index) {
        return Utf8.Text(Native.ue_session_reason(handle, (UIntPtr)(uint)index));
    }

    public void Dispose() {
        handle.Dispose();
    }
}

}
