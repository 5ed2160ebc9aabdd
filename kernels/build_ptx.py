"""Makes the .ptx files from the .cu files with NVRTC.

    python3 -m venv venv && venv/bin/pip install nvidia-cuda-nvrtc-cu12==12.0.76
    python3 kernels/build_ptx.py venv/lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.12

The oldest 12.x compiler gives the lowest PTX version, which the oldest drivers accept. The last line
of the output names the source it was made from; tests/it/ptx.rs checks it, and compiles again when
TQ4_NVRTC_LIB names the library.
"""

import ctypes
import hashlib
import os
import pathlib
import sys

# The kernels, and the compute capability that each is made for.
KERNELS = {"sm75": "75", "sm80": "80", "codecs": "75"}


def compile_ptx(library: str, name: str, source: bytes, capability: str) -> bytes:
    given = [f"--gpu-architecture=compute_{capability}".encode(), b"--fmad=false"]
    # NVRTC opens its companion libnvrtc-builtins.so by name: loading it first lets it be found.
    for builtins in pathlib.Path(library).resolve().parent.glob("libnvrtc-builtins.so*"):
        ctypes.CDLL(os.fspath(builtins), mode=ctypes.RTLD_GLOBAL)
    nvrtc = ctypes.CDLL(library)
    program = ctypes.c_void_p()

    def check(code: int, call: str) -> None:
        if code:
            sys.exit(f"{call} failed with code {code}")

    check(
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), source, name.encode(), 0, None, None
        ),
        "nvrtcCreateProgram",
    )
    options = (ctypes.c_char_p * len(given))(*given)
    code = nvrtc.nvrtcCompileProgram(program, len(given), options)
    size = ctypes.c_size_t()
    check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)), "nvrtcGetProgramLogSize")
    log = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetProgramLog(program, log), "nvrtcGetProgramLog")
    if log.value.strip():
        print(log.value.decode(), file=sys.stderr)
    check(code, "nvrtcCompileProgram")
    check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)), "nvrtcGetPTXSize")
    ptx = ctypes.create_string_buffer(size.value)
    check(nvrtc.nvrtcGetPTX(program, ptx), "nvrtcGetPTX")
    return ptx.value


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    here = pathlib.Path(__file__).resolve().parent
    for kernel, capability in KERNELS.items():
        file = here / f"tq4_dequant_{kernel}.cu"
        source = file.read_bytes()
        ptx = compile_ptx(sys.argv[1], file.name, source, capability).rstrip(b"\n")
        mark = b"\n// source sha256: " + hashlib.sha256(source).hexdigest().encode() + b"\n"
        file.with_suffix(".ptx").write_bytes(ptx + mark)


if __name__ == "__main__":
    main()
