#include "slides.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <regex>

#include "synthetic.hpp"

namespace fs = std::filesystem;

namespace {

constexpr std::uintmax_t most_bytes = 16u << 20; /* of one compressed tile */

std::string stem(int64_t x, int64_t y) {
    return std::to_string(x) + "_" + std::to_string(y);
}

std::string head(size_t side) {
    return "P6\n" + std::to_string(side) + " " + std::to_string(side) + "\n255\n";
}

Bytes whole_file(const fs::path &path) {
    const std::uintmax_t size = fs::file_size(path);
    if (size > most_bytes)
        throw std::runtime_error("too large for a tile");
    Bytes bytes(static_cast<size_t>(size));
    std::ifstream file(path, std::ios::binary);
    if (!file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(size)))
        throw std::runtime_error("cannot be read whole");
    return bytes;
}

class Folder : public Slide {
  public:
    Folder(const fs::path &folder, size_t side) : folder_(folder), side_(side) {
        static const std::regex name(R"((\d{1,9})_(\d{1,9})\.(ppm|jpg))");
        for (const fs::directory_entry &entry : fs::directory_iterator(folder)) {
            const std::string file = entry.path().filename().string();
            std::smatch parts;
            if (!std::regex_match(file, parts, name))
                continue;
            width = std::max(width, static_cast<int64_t>(std::stoll(parts[1]) + side));
            height = std::max(height, static_cast<int64_t>(std::stoll(parts[2]) + side));
        }
        if (!width)
            throw std::runtime_error(folder.string() + ": holds no tile X_Y.ppm or X_Y.jpg");
    }

    Tile read(int64_t x, int64_t y) const override {
        Tile tile;
        const fs::path ppm = folder_ / (stem(x, y) + ".ppm"), jpg = folder_ / (stem(x, y) + ".jpg");
        if (fs::exists(jpg))
            tile.jpeg = whole_file(jpg);
        else if (fs::exists(ppm))
            tile.rgb = pixels(whole_file(ppm));
        return tile;
    }

  private:
    Bytes pixels(const Bytes &file) const {
        const std::string wanted = head(side_);
        if (file.size() != wanted.size() + 3 * side_ * side_ ||
            !std::equal(wanted.begin(), wanted.end(), file.begin()))
            throw std::runtime_error("is no PPM of " + std::to_string(side_) + " pixels a side");
        return Bytes(file.begin() + static_cast<std::ptrdiff_t>(wanted.size()), file.end());
    }

    fs::path folder_;
    size_t side_;
};

} // namespace

std::unique_ptr<Slide> open_slide(const Options &options, size_t side) {
    if (options.tiles.empty())
        return std::make_unique<Synthetic>(options.width, options.height, options.seed, side);
    return std::make_unique<Folder>(fs::u8path(options.tiles), side);
}

void save_tile(const fs::path &folder, int64_t x, int64_t y, size_t side, const Bytes &rgb) {
    fs::create_directories(folder);
    std::ofstream file(folder / (stem(x, y) + ".ppm"), std::ios::binary);
    file << head(side);
    file.write(reinterpret_cast<const char *>(rgb.data()),
               static_cast<std::streamsize>(rgb.size()));
    if (!file.flush())
        throw std::runtime_error(folder.string() + ": a tile cannot be written");
}
