// Test equipment: a stand-in for NVRTC, libnvrtc.so, of CUDA version MAJOR.MINOR. It compiles nothing: the PTX
// and the machine code that it returns have the names of the kernel's entry points, which is all that the
// stand-in for the driver reads.

#include <cstring>
#include <elf.h>
#include <string>
#include <vector>

namespace {

enum Code { SUCCESS = 0, INVALID_OPTION = 5 };

std::vector<std::string> entries() {
    std::vector<std::string> all;
    for (const char *bits : {"2", "4"}) {
        for (const char *group : {"32", "64", "128", "256"}) {
            for (const char *out : {"bf16", "f32"}) {
                all.push_back(std::string("tq4_dequant_sm80_b") + bits + "_g" + group + "_" + out);
            }
        }
    }
    for (const char *group : {"32", "64", "128", "256"}) {
        all.push_back(std::string("tq4_dequant_sm80_b4_g") + group + "_bf16_pairs");
    }
    return all;
}

std::string ptx() {
    std::string text = ".version " + std::to_string(MAJOR - 4) + "." + std::to_string(MINOR) + "\n";
    for (const auto &name : entries()) text += ".entry " + name + "(\n";
    return text + '\0';
}

// A header, the sections' names, and the sections.
std::string code() {
    std::string names(1, '\0');
    std::vector<Elf64_Shdr> sections(1);
    for (const auto &name : entries()) {
        sections.emplace_back().sh_name = (Elf64_Word)names.size();
        names += ".text." + name + '\0';
    }
    names.resize((names.size() + 7) / 8 * 8);
    Elf64_Ehdr header = {};
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    sections[0].sh_offset = sizeof header;
    header.e_shoff = sizeof header + names.size();
    header.e_shnum = (Elf64_Half)sections.size();
    std::string image((const char *)&header, sizeof header);
    image += names;
    return image.append((const char *)sections.data(), sections.size() * sizeof sections[0]);
}

bool to_code;

int size(const std::string &of, size_t *out) { return *out = of.size(), SUCCESS; }
int read(const std::string &from, char *out) { return memcpy(out, from.data(), from.size()), SUCCESS; }

} // namespace

extern "C" {

int nvrtcVersion(int *major, int *minor) { return *major = MAJOR, *minor = MINOR, SUCCESS; }
const char *nvrtcGetErrorString(int) { return "an option is invalid"; }

int nvrtcCreateProgram(void **out, const char *, const char *, int, const char *const *, const char *const *) {
    return *out = &to_code, SUCCESS;
}

int nvrtcCompileProgram(void *, int count, const char *const *options) {
    if (count != 2 || strcmp(options[1], "--fmad=false") != 0) return INVALID_OPTION;
    to_code = strcmp(options[0], "--gpu-architecture=sm_90") == 0;
    return to_code || strcmp(options[0], "--gpu-architecture=compute_90") == 0 ? SUCCESS : INVALID_OPTION;
}

int nvrtcDestroyProgram(void **) { return SUCCESS; }
int nvrtcGetProgramLogSize(void *, size_t *out) { return size(std::string(1, '\0'), out); }
int nvrtcGetProgramLog(void *, char *out) { return *out = 0, SUCCESS; }
int nvrtcGetPTXSize(void *, size_t *out) { return size(ptx(), out); }
int nvrtcGetPTX(void *, char *out) { return read(ptx(), out); }

// As NVRTC has none of a virtual architecture.
int nvrtcGetCUBINSize(void *, size_t *out) { return size(to_code ? code() : "", out); }
int nvrtcGetCUBIN(void *, char *out) { return read(to_code ? code() : "", out); }

} // extern "C"
