import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The C interface as Java sees it, by the foreign function and memory API (Java 22 or newer, on a
 * 64-bit machine). {@code java Push.java --layouts} prints what follows from the structs, so that
 * it can be compared with what a C compiler makes of them.
 */
@SuppressWarnings("restricted")
final class Native {
    /** Of ue_status. */
    static final int OK = 0, BAD_OPTIONS = 9, BAD_FILE = 10, BAD_TILE = 15, BUSY = 16, ENDED = 17;

    /** Types: i int, z size_t, l int64_t, d double, p a pointer; a digit after it: an array. */
    static final Map<String, StructLayout> STRUCTS = new LinkedHashMap<>();

    static {
        struct("ue_bundle_info", "z struct_size", "p name version licence intended_use sha256",
               "z tile_px crop_px field_tiles max_tiles", "d um_px",
               "d3 mean std colour_mean colour_std", "i dtype colour trained demonstration",
               "z width tasks");
        struct("ue_encoder", "z struct_size", "p self", "z batch crop width workers threads",
               "i dtype", "p name version precision device unverified",
               "p encode interrupt error destroy");
        struct("ue_bundle_engine", "z struct_size", "p backend precision onnxruntime openvino",
               "z threads workers batch memory", "p speeds", "i allow_unverified");
        struct("ue_pixels", "p red", "l row_stride pixel_stride channel_stride");
        struct("ue_colour", "z struct_size", "p mode", "d12 matrix", "p warning");
        struct("ue_session_options", "z struct_size", "l width height", "d um_px", "z max_tiles",
               "p colour", "z memory", "p decode decoder spool name path um_px_source sha256");
        struct("ue_session_progress", "z seen held ready encoding encoded");
        struct("ue_answer", "z struct_size", "p name", "i decision", "d probability threshold");
    }

    private static final Linker LINKER = Linker.nativeLinker();
    private static final SymbolLookup LIBRARY = library();
    private static final Map<String, MethodHandle> FUNCTIONS = new LinkedHashMap<>();

    /** What each function returns (v: nothing), then what it takes. */
    private static final Map<String, String> SIGNATURES = Map.ofEntries(
        Map.entry("ue_status_text", "pi"), Map.entry("ue_bundle_open", "ipp"),
        Map.entry("ue_bundle_error", "pp"), Map.entry("ue_bundle_close", "vp"),
        Map.entry("ue_bundle_describe", "ipp"), Map.entry("ue_bundle_encoder", "ippp"),
        Map.entry("ue_encoder_error", "p"), Map.entry("ue_encoder_close", "vp"),
        Map.entry("ue_screener_open", "ipppp"), Map.entry("ue_screener_close", "vp"),
        Map.entry("ue_session_open", "ippp"), Map.entry("ue_session_close", "vp"),
        Map.entry("ue_session_error", "p"), Map.entry("ue_session_grid", "ippp"),
        Map.entry("ue_session_origin", "ipzzpp"), Map.entry("ue_session_push", "ipplldi"),
        Map.entry("ue_session_push_jpeg", "ippzlli"), Map.entry("ue_session_skip", "ipll"),
        Map.entry("ue_session_fail", "ipllp"), Map.entry("ue_session_came", "ipll"),
        Map.entry("ue_session_progress_of", "ipp"), Map.entry("ue_session_finish", "ipi"),
        Map.entry("ue_session_cancel", "vp"), Map.entry("ue_session_result_json", "pp"),
        Map.entry("ue_session_answer", "ipzp"), Map.entry("ue_session_reason", "ppz"));

    static {
        SIGNATURES.forEach((name, types) -> FUNCTIONS.put(name, function(name, types)));
    }

    private Native() {
    }

    /** The property unicas_edge.library is its path; without it, it has its usual name. */
    private static SymbolLookup library() {
        String path = System.getProperty("unicas_edge.library");
        String name = path != null ? path : System.mapLibraryName("unicas_edge");
        try {
            return path != null ? SymbolLookup.libraryLookup(Path.of(path), Arena.global())
                                : SymbolLookup.libraryLookup(name, Arena.global());
        } catch (IllegalArgumentException error) {
            throw new UnsatisfiedLinkError(
                name +
                ": cannot be opened; give the library's path by -Dunicas_edge.library=PATH");
        }
    }

    private static MemoryLayout layout(String type) {
        MemoryLayout one = switch (type.charAt(0)) {
            case 'i' -> ValueLayout.JAVA_INT;
            case 'z', 'l' -> ValueLayout.JAVA_LONG;
            case 'd' -> ValueLayout.JAVA_DOUBLE;
            default -> ValueLayout.ADDRESS;
        };
        return type.length() == 1
            ? one
            : MemoryLayout.sequenceLayout(Long.parseLong(type.substring(1)), one);
    }

    /** With the padding that C puts before a field, and at the end. */
    private static void struct(String name, String... fields) {
        List<MemoryLayout> parts = new ArrayList<>();
        long end = 0;
        for (String field : fields) {
            String[] words = field.split(" ");
            MemoryLayout type = layout(words[0]);
            for (int k = 1; k < words.length; k++) {
                end += pad(parts, end, type.byteAlignment());
                parts.add(type.withName(words[k]));
                end += type.byteSize();
            }
        }
        pad(parts, end, 8);
        STRUCTS.put(name, MemoryLayout.structLayout(parts.toArray(MemoryLayout[]::new)));
    }

    private static long pad(List<MemoryLayout> parts, long end, long alignment) {
        long missing = -end & alignment - 1;
        if (missing > 0)
            parts.add(MemoryLayout.paddingLayout(missing));
        return missing;
    }

    static FunctionDescriptor descriptor(String types) {
        MemoryLayout[] taken = new MemoryLayout[types.length() - 1];
        for (int k = 0; k < taken.length; k++)
            taken[k] = layout(types.substring(k + 1, k + 2));
        return types.startsWith("v") ? FunctionDescriptor.ofVoid(taken)
                                     : FunctionDescriptor.of(layout(types.substring(0, 1)), taken);
    }

    private static MethodHandle function(String name, String types) {
        MemorySegment found = LIBRARY.find(name).orElseThrow(
            () -> new UnsatisfiedLinkError(name + " is missing: the library is too old"));
        return LINKER.downcallHandle(found, descriptor(types));
    }

    /** A pointer by which C calls `handle`, valid as long as `arena`. */
    static MemorySegment pointer(MethodHandle handle, String types, Arena arena) {
        return LINKER.upcallStub(handle, descriptor(types), arena);
    }

    static Object call(String name, Object... arguments) {
        try {
            return FUNCTIONS.get(name).invokeWithArguments(arguments);
        } catch (RuntimeException | Error error) {
            throw error;
        } catch (Throwable error) {
            throw new IllegalStateException(name, error);
        }
    }

    static int status(String name, Object... arguments) {
        return (int)call(name, arguments);
    }

    /** What a function says; null for NULL. */
    static String said(String name, Object... arguments) {
        return text((MemorySegment)call(name, arguments));
    }

    static String text(MemorySegment pointer) {
        return pointer.address() == 0 ? null : pointer.reinterpret(Long.MAX_VALUE).getString(0);
    }

    /** A copy of what C points to. */
    static byte[] bytes(MemorySegment pointer, long size) {
        return pointer.reinterpret(size).toArray(ValueLayout.JAVA_BYTE);
    }

    /** Copy to where C points. */
    static void fill(MemorySegment pointer, byte[] bytes) {
        MemorySegment.copy(bytes, 0, pointer.reinterpret(bytes.length), ValueLayout.JAVA_BYTE, 0,
                           bytes.length);
    }

    /** UTF-8 that C reads; NULL for null, which in C means that nothing was said. */
    static MemorySegment text(String text, Arena arena) {
        if (text == null)
            return MemorySegment.NULL;
        if (text.indexOf('\0') >= 0)
            throw new UnicasEdge.Failure(BAD_OPTIONS, "a text holds U+0000; leave it out");
        return arena.allocateFrom(text);
    }

    /** How structs lie in memory, and what statuses are, in the lines of csrc/abi.txt. */
    static int printLayouts() {
        STRUCTS.forEach((name, layout) -> {
            System.out.println("struct " + name + " " + layout.byteSize());
            layout.memberLayouts().forEach(field -> field.name().ifPresent(own -> {
                long offset = layout.byteOffset(PathElement.groupElement(own));
                System.out.println("field " + name + "." + own + " " + offset);
            }));
        });
        for (var field : Native.class.getDeclaredFields())
            if (field.getType() == int.class)
                System.out.println("constant UE_" + field.getName() + " " + constant(field));
        return 0;
    }

    private static int constant(java.lang.reflect.Field field) {
        try {
            return field.getInt(null);
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
    }

    /** A struct in memory, whose fields go by their names in C. */
    record Struct(StructLayout layout, MemorySegment memory) {
        /** Zeroes; where it begins with struct_size, that is set. */
        static Struct of(String name, Arena arena) {
            StructLayout layout = STRUCTS.get(name);
            Struct made = new Struct(layout, arena.allocate(layout));
            if (layout.memberLayouts().get(0).name().filter("struct_size"::equals).isPresent())
                made.set("struct_size", layout.byteSize());
            return made;
        }

        private long at(String field) {
            return layout.byteOffset(PathElement.groupElement(field));
        }

        Struct set(String field, long value) {
            memory.set(ValueLayout.JAVA_LONG, at(field), value);
            return this;
        }

        Struct set(String field, int value) {
            memory.set(ValueLayout.JAVA_INT, at(field), value);
            return this;
        }

        Struct set(String field, double... values) {
            MemorySegment.copy(values, 0, memory, ValueLayout.JAVA_DOUBLE, at(field),
                               values.length);
            return this;
        }

        Struct set(String field, MemorySegment pointer) {
            memory.set(ValueLayout.ADDRESS, at(field), pointer);
            return this;
        }

        int number(String field) {
            return memory.get(ValueLayout.JAVA_INT, at(field));
        }

        long size(String field) {
            return memory.get(ValueLayout.JAVA_LONG, at(field));
        }

        double real(String field) {
            return memory.get(ValueLayout.JAVA_DOUBLE, at(field));
        }

        String text(String field) {
            return Native.text(memory.get(ValueLayout.ADDRESS, at(field)));
        }
    }
}
