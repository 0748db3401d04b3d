"""Makes torch's CUDA build importable on a machine without CUDA: for tests only, never for an image.

The torch that the package index has for Linux on x86_64 is linked against CUDA libraries of 2.5 GB. A CPU test calls
none of them, but the loader wants them to be there, with the symbols and symbol versions that torch's own libraries
name. So for each library that is needed and not there, one is compiled in which every such symbol is a function that
says "no device".

    cuda_stubs.py SITE_PACKAGES
"""

import pathlib
import re
import subprocess
import sys
import tempfile
from collections import defaultdict

# What the loader finds elsewhere, or what is not CUDA's.
CUDA_LIBRARY = re.compile(r"lib(cu|nv|nccl)")
CUDA_SYMBOL = re.compile(r"(cu[A-Z]|cuda|cudnn|cublas|cufft|curand|cusparse|cusolver|nccl|nvrtc|nvshmem|nvtx|cupti|__cuda)")
SYSTEM_VERSION = re.compile(r"(GLIBC|CXXABI|GCC|GOMP|OMP|libnuma)")

NO_DEVICE = 100  # cudaErrorNoDevice
TEXTS = {
    "cudaGetErrorString", "cudaGetErrorName", "cublasGetStatusString", "cudnnGetErrorString", "ncclGetErrorString",
    "ncclGetLastError", "nvrtcGetErrorString", "cusparseGetErrorString", "cufileGetErrorString",
}
# Called while libraries are loaded and unloaded: they have to succeed.
SUCCEED = {"cudaGetLastError", "cudaPeekAtLastError", "__cudaRegisterFatBinaryEnd"}


def function(name):
    if name in TEXTS:
        return f'const char *{name}(void) {{ return "no CUDA here"; }}'
    if name == "cudaGetDeviceCount":
        return f"int {name}(int *count) {{ if (count) *count = 0; return {NO_DEVICE}; }}"
    if name == "__cudaRegisterFatBinary":
        return f"void *{name}(void) {{ static long handle[8]; return handle; }}"
    return f"long {name}(void) {{ return {0 if name in SUCCEED else NO_DEVICE}; }}"


def lines(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def survey(libraries):
    """Names of needed libraries, and of undefined symbols by version ('' for none)."""
    needed, wanted, defined = set(), defaultdict(set), set()
    for library in libraries:
        needed |= {line.split()[1] for line in lines("objdump", "-p", library) if line.strip().startswith("NEEDED")}
        for fields in map(str.split, lines("nm", "-D", library)):
            name, _, version = fields[-1].partition("@")
            if fields[-2] == "U":
                wanted[version.lstrip("@")].add(name)
            elif fields[-2] in "TWVBDRi":
                defined.add(name)
    return needed, {version: names - defined for version, names in wanted.items()}


def compile_stub(path, versioned, plain):
    with tempfile.TemporaryDirectory() as scratch:
        source, versions = pathlib.Path(scratch, "stub.c"), pathlib.Path(scratch, "stub.map")
        source.write_text("\n".join(map(function, sorted(versioned | plain))) + "\nint longshore_stub;\n")
        command = ["gcc", "-shared", "-fPIC", "-O0", "-w", "-fno-builtin", "-o", path, source, f"-Wl,-soname,{path.name}"]
        if versioned:
            names = " ".join(f"{name};" for name in sorted(versioned))
            versions.write_text(f"{path.name} {{ global: {names} }};\n")
            command.append(f"-Wl,--version-script={versions}")
        subprocess.run(command, check=True)


def main(packages):
    directory = pathlib.Path(packages, "torch", "lib")
    libraries = [path for path in directory.glob("*.so*") if not path.is_symlink() and path.name != "libgomp.so.1"]
    needed, wanted = survey(libraries)
    present = {path.name for path in directory.glob("*.so*")}
    missing = sorted(name for name in needed - present if CUDA_LIBRARY.match(name))
    # CUDA's symbol versions are the names of its libraries. What has no version, or one of a library that is not
    # needed by name, may come from any of them: the runtime gets it.
    loose = {name for name in wanted.get("", ()) if CUDA_SYMBOL.match(name)}
    for version, names in wanted.items():
        if version and version not in missing and not SYSTEM_VERSION.match(version):
            loose |= names
    for name in missing:
        runtime = name.startswith("libcudart")
        compile_stub(directory / name, wanted.get(name, set()), loose if runtime else set())
    print(f"made {len(missing)} libraries without CUDA in {directory}")


if __name__ == "__main__":
    main(sys.argv[1])
