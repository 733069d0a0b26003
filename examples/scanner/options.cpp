#include "options.hpp"

#include <cmath>
#include <functional>
#include <map>
#include <sstream>

const char *const usage_text =
    "usage: scanner BUNDLE [OPTION VALUE]...\n"
    "  --backend, --precision NAME   of the engine that encodes (the fastest that may screen)\n"
    "  --runtime LIBRARY  ONNX Runtime's shared library, where it has no usual name\n"
    "  --threads N        of the engine (all cores)\n"
    "  --max-tiles N      tiles that are encoded at most (the bundle's number)\n"
    "  --colour TEXT      how colours are corrected: `fit`, as the bundle asks by what lies at "
    "the\n"
    "                     focus points; or a mode and a matrix of twelve numbers, row by row, "
    "with\n"
    "                     commas between\n"
    "slide:\n"
    "  --tiles FOLDER     tiles X_Y.ppm or X_Y.jpg, at level-0 (X, Y), at the bundle's um/px\n"
    "  --width, --height  of the synthetic slide that is drawn without --tiles (8192)\n"
    "  --seed N           of that slide, and of what goes wrong (1)\n"
    "scan:\n"
    "  --rate R           tiles a second (300); 0: as fast as they are taken\n"
    "  --lost, --late, --twice N   so many of a thousand tiles are\n"
    "  --pause-after N --pause SECONDS   the stage stands still\n"
    "  --cancel-after N   the user cancels\n"
    "  --crash-after N    the process kills itself\n"
    "  --spool FILE       goes on where a scan with that file stopped\n"
    "output:\n"
    "  --output FILE      the result (standard output)\n"
    "  --save FOLDER      the tiles that are pushed, as X_Y.ppm\n";

namespace {

using Set = std::function<void(Options &, const std::string &)>;

double number(const std::string &word, double most) {
    std::istringstream stream(word);
    stream.imbue(std::locale::classic());
    double value = 0;
    if (!(stream >> value) || !stream.eof() || !(std::fabs(value) <= most))
        throw Usage("'" + word + "' is not a possible number");
    return value;
}

Set text(std::string Options::*field) {
    return [field](Options &options, const std::string &word) { options.*field = word; };
}

Set real(double Options::*field, double most) {
    return [=](Options &options, const std::string &word) {
        options.*field = std::fabs(number(word, most));
    };
}

double whole_number(const std::string &word, double least, double most) {
    const double value = number(word, most);
    if (value != std::floor(value) || value < least)
        throw Usage("'" + word + "' is not a possible whole number");
    return value;
}

template <class T> Set whole(T Options::*field, double least, double most) {
    return [=](Options &options, const std::string &word) {
        options.*field = static_cast<T>(whole_number(word, least, most));
    };
}

Set engine(std::string unicas_edge::Engine::*field) {
    return [field](Options &options, const std::string &word) { options.engine.*field = word; };
}

void set_threads(Options &options, const std::string &word) {
    options.engine.threads = static_cast<size_t>(whole_number(word, 0, 1024));
}

void set_colour(Options &options, const std::string &word) {
    options.fit_colour = word == "fit";
    if (options.fit_colour)
        return;
    std::istringstream parts(word);
    unicas_edge::Colour colour;
    std::string part;
    std::getline(parts, colour.mode, ',');
    for (double &value : colour.matrix) {
        if (!std::getline(parts, part, ','))
            throw Usage("--colour has a mode and twelve numbers");
        value = number(part, 1e6);
    }
    options.colour = colour;
}

const std::map<std::string, Set> &setters() {
    static const std::map<std::string, Set> all = {
        {"--backend", engine(&unicas_edge::Engine::backend)},
        {"--precision", engine(&unicas_edge::Engine::precision)},
        {"--runtime", engine(&unicas_edge::Engine::onnxruntime)},
        {"--threads", set_threads},
        {"--max-tiles", whole(&Options::max_tiles, 0, 1e6)},
        {"--colour", set_colour},
        {"--tiles", text(&Options::tiles)},
        {"--width", whole(&Options::width, 1, 1e7)},
        {"--height", whole(&Options::height, 1, 1e7)},
        {"--seed", whole(&Options::seed, 0, 1e15)},
        {"--rate", real(&Options::rate, 1e6)},
        {"--lost", whole(&Options::lost, 0, 1000)},
        {"--late", whole(&Options::late, 0, 1000)},
        {"--twice", whole(&Options::twice, 0, 1000)},
        {"--pause", real(&Options::pause, 86400)},
        {"--pause-after", whole(&Options::pause_after, 0, 1e9)},
        {"--cancel-after", whole(&Options::cancel_after, 0, 1e9)},
        {"--crash-after", whole(&Options::crash_after, 0, 1e9)},
        {"--spool", text(&Options::spool)},
        {"--output", text(&Options::output)},
        {"--save", text(&Options::save)},
    };
    return all;
}

} // namespace

Options parse(int count, char **words) {
    Options options;
    if (count < 2 || words[1][0] == '-')
        throw Usage("name a bundle first");
    options.bundle = words[1];
    for (int k = 2; k < count; k += 2) {
        const auto found = setters().find(words[k]);
        if (found == setters().end())
            throw Usage(std::string(words[k]) + " is no option");
        if (k + 1 == count)
            throw Usage(std::string(words[k]) + " needs a value");
        found->second(options, words[k + 1]);
    }
    return options;
}
