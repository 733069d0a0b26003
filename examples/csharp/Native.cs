// The C interface as C# sees it: structs, functions, handles. `push.exe --layouts` prints what
// follows from the structs, so that it can be compared with what a C compiler makes of them.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace UnicasEdge {

// What a call came to; see ue_status in unicas_edge.h.
public enum Status {
    Ok,
    NullPointer,
    BadSize,
    BadStride,
    BadAffine,
    BadDtype,
    Misaligned,
    NoSuchVariant,
    NoMemory,
    BadOptions,
    BadFile,
    BadConfig,
    BadWeights,
    BadTokens,
    Overflow,
    BadTile,
    Busy,
    Ended,
    NoRuntime,
    BadModel,
    RunFailed,
    BadBundle,
    BadSlide
}

internal static class Native {
    private const string Library = "unicas_edge";
    public const uint Forever = uint.MaxValue;

    // ---- structs, field by field as in C; texts are pointers to UTF-8 -------------------------

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_bundle_info {
        public UIntPtr struct_size;
        public IntPtr name, version, licence, intended_use, sha256;
        public UIntPtr tile_px, crop_px, field_tiles, max_tiles;
        public double um_px;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 3)]
        public double[] mean;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 3)]
        public double[] std;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 3)]
        public double[] colour_mean;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 3)]
        public double[] colour_std;
        public int dtype, colour, trained, demonstration;
        public UIntPtr width, tasks;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_encoder {
        public UIntPtr struct_size;
        public IntPtr self;
        public UIntPtr batch, crop, width, workers, threads;
        public int dtype;
        public IntPtr name, version, precision, device, unverified;
        public IntPtr encode, interrupt, error, destroy;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_bundle_engine {
        public UIntPtr struct_size;
        public IntPtr backend, precision, onnxruntime, openvino;
        public UIntPtr threads, workers, batch, memory;
        public IntPtr speeds;
        public int allow_unverified;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_pixels {
        public IntPtr red, row_stride, pixel_stride, channel_stride;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_colour {
        public UIntPtr struct_size;
        public IntPtr mode;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 12)]
        public double[] matrix;
        public IntPtr warning;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_session_options {
        public UIntPtr struct_size;
        public long width, height;
        public double um_px;
        public UIntPtr max_tiles;
        public IntPtr colour;
        public UIntPtr memory;
        public IntPtr decode, decoder, spool, name, path, um_px_source, sha256;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_session_progress {
        public UIntPtr seen, held, ready, encoding, encoded;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct ue_answer {
        public UIntPtr struct_size;
        public IntPtr name;
        public int decision;
        public double probability, threshold;
    }

    public static UIntPtr SizeOf<T>() {
        return (UIntPtr)(uint)Marshal.SizeOf(typeof(T));
    }

    // ---- functions ----------------------------------------------------------------------------

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    public delegate Status Decode(IntPtr self, IntPtr bytes, UIntPtr size, IntPtr rgb,
                                  UIntPtr side);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern IntPtr ue_status_text(Status status);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_bundle_open(byte[] folder, out BundleHandle bundle);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern IntPtr ue_bundle_error(BundleHandle bundle);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern void ue_bundle_close(IntPtr bundle);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_bundle_describe(BundleHandle bundle, ref ue_bundle_info info);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_bundle_encoder(BundleHandle bundle, ref ue_bundle_engine wanted,
                                                  EncoderHandle encoder);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern void ue_encoder_close(IntPtr encoder);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern IntPtr ue_encoder_error();

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_screener_open(BundleHandle bundle, EncoderHandle encoder,
                                                 IntPtr options, out ScreenerHandle screener);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern void ue_screener_close(IntPtr screener);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_open(ScreenerHandle screener,
                                                ref ue_session_options options,
                                                out SessionHandle session);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern void ue_session_close(IntPtr session);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern IntPtr ue_session_error();

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_grid(SessionHandle session, out UIntPtr rows,
                                                out UIntPtr cols);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_origin(SessionHandle session, UIntPtr row, UIntPtr col,
                                                  out long x, out long y);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_push(SessionHandle session, ref ue_pixels pixels, long x,
                                                long y, double score, uint milliseconds);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_push_jpeg(SessionHandle session, byte[] bytes,
                                                     UIntPtr size, long x, long y,
                                                     uint milliseconds);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_skip(SessionHandle session, long x, long y);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_fail(SessionHandle session, long x, long y,
                                                byte[] cause);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_came(SessionHandle session, long x, long y);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_progress_of(SessionHandle session,
                                                       out ue_session_progress progress);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_finish(SessionHandle session, uint milliseconds);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern void ue_session_cancel(SessionHandle session);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern IntPtr ue_session_result_json(SessionHandle session);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern Status ue_session_answer(SessionHandle session, UIntPtr task,
                                                  ref ue_answer answer);

    [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
    public static extern IntPtr ue_session_reason(SessionHandle session, UIntPtr index);
}

// ---- texts ------------------------------------------------------------------------------------

internal static class Utf8 {
    // With the zero that ends it in C.
    public static byte[] Bytes(string text) {
        if (text.IndexOf('\0') >= 0)
            throw new UnicasException(Status.BadOptions, "a text holds U+0000; leave it out");
        return Encoding.UTF8.GetBytes(text + "\0");
    }

    public static string Text(IntPtr text) {
        if (text == IntPtr.Zero)
            return null;
        int length = 0;
        while (Marshal.ReadByte(text, length) != 0)
            length++;
        var bytes = new byte[length];
        Marshal.Copy(text, bytes, 0, length);
        return Encoding.UTF8.GetString(bytes);
    }
}

// Memory that C reads during one call.
internal sealed class Scratch : IDisposable {
    private readonly List<IntPtr> taken = new List<IntPtr>();

    private IntPtr Take(int size) {
        IntPtr memory = Marshal.AllocHGlobal(size);
        taken.Add(memory);
        return memory;
    }

    // NULL for null, which in C means that nothing was said.
    public IntPtr Text(string text) {
        if (text == null)
            return IntPtr.Zero;
        byte[] bytes = Utf8.Bytes(text);
        IntPtr memory = Take(bytes.Length);
        Marshal.Copy(bytes, 0, memory, bytes.Length);
        return memory;
    }

    public IntPtr Struct<T>(T value) where T : struct {
        IntPtr memory = Take(Marshal.SizeOf(typeof(T)));
        Marshal.StructureToPtr(value, memory, false);
        return memory;
    }

    public void Dispose() {
        taken.ForEach(Marshal.FreeHGlobal);
        taken.Clear();
    }
}

// ---- handles: each keeps what must outlive it, in whatever order they are collected ------------

internal abstract class Handle : SafeHandle {
    private readonly List<SafeHandle> parents = new List<SafeHandle>();
    private GCHandle callback;

    protected Handle() : base(IntPtr.Zero, true) {
    }

    public override bool IsInvalid {
        get {
            return handle == IntPtr.Zero;
        }
    }

    public void Keep(SafeHandle parent) {
        bool kept = false;
        parent.DangerousAddRef(ref kept);
        parents.Add(parent);
    }

    public void Keep(Delegate function) {
        callback = GCHandle.Alloc(function);
    }

    protected abstract void Free();

    protected override bool ReleaseHandle() {
        Free();
        parents.ForEach(parent => parent.DangerousRelease());
        if (callback.IsAllocated)
            callback.Free();
        return true;
    }
}

internal sealed class BundleHandle : Handle {
    protected override void Free() {
        Native.ue_bundle_close(handle);
    }
}

// The memory of a ue_encoder: where it lies, a screener looks for it.
internal sealed class EncoderHandle : Handle {
    public static EncoderHandle Empty() {
        var empty = new Native.ue_encoder { struct_size = Native.SizeOf<Native.ue_encoder>() };
        var made = new EncoderHandle();
        made.SetHandle(Marshal.AllocHGlobal(Marshal.SizeOf(typeof(Native.ue_encoder))));
        Marshal.StructureToPtr(empty, made.handle, false);
        return made;
    }

    protected override void Free() {
        Native.ue_encoder_close(handle);
        Marshal.FreeHGlobal(handle);
    }
}

internal sealed class ScreenerHandle : Handle {
    protected override void Free() {
        Native.ue_screener_close(handle);
    }
}

internal sealed class SessionHandle : Handle {
    protected override void Free() {
        Native.ue_session_close(handle);
    }
}

}
