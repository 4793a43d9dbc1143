# SPDX-License-Identifier: BSD-3-Clause
"""Take the ELF kernel out of a bzImage (Linux boot protocol 2.08 and later).

The ELF file is what PVH boots, and starting it spares an emulated processor the work of
decompressing. The setup header of the image says where its payload is; the payload is one
compressed file with its unpacked size as a 32-bit number behind it.
"""

import bz2
import ctypes
import ctypes.util
import gzip
import lzma
import struct

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
LZ4_MAGIC = b"\x02\x21\x4c\x18"
LZ4_BLOCK_BYTES = 8 << 20


def unzstd(packed, size):
    """Decompress with the system's libzstd, which dpkg itself needs."""
    lib = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    for name in ("ZSTD_decompress", "ZSTD_findFrameCompressedSize"):
        getattr(lib, name).restype = ctypes.c_size_t
    lib.ZSTD_isError.restype = ctypes.c_uint
    source = ctypes.create_string_buffer(packed, len(packed))
    frame = lib.ZSTD_findFrameCompressedSize(source, ctypes.c_size_t(len(packed)))
    if lib.ZSTD_isError(ctypes.c_size_t(frame)):
        raise ValueError("the payload is not a whole zstd frame")
    out = ctypes.create_string_buffer(size)
    got = lib.ZSTD_decompress(out, ctypes.c_size_t(size), source, ctypes.c_size_t(frame))
    if lib.ZSTD_isError(ctypes.c_size_t(got)) or got != size:
        raise ValueError("the payload's zstd frame does not unpack to its stated size")
    return out.raw


def unlz4(packed, size):
    """Decompress the kernel's LZ4 form (blocks of 8 MiB, each behind its packed size) with the
    system's liblz4, which apt itself needs."""
    lib = ctypes.CDLL(ctypes.util.find_library("lz4") or "liblz4.so.1")
    block = ctypes.create_string_buffer(LZ4_BLOCK_BYTES)
    parts, at, total = [], len(LZ4_MAGIC), 0
    while at + 4 <= len(packed) and total < size:
        (length,) = struct.unpack_from("<I", packed, at)
        source = packed[at + 4 : at + 4 + length]
        got = lib.LZ4_decompress_safe(source, block, len(source), LZ4_BLOCK_BYTES)
        if got <= 0:
            raise ValueError("the payload holds a damaged LZ4 block")
        parts.append(block.raw[:got])
        total += got
        at += 4 + length
    if total != size:
        raise ValueError("the payload's LZ4 blocks do not unpack to their stated size")
    return b"".join(parts)


def extract_vmlinux(image):
    """Return the ELF kernel inside IMAGE (bytes); ValueError when there is none."""
    if image[0x202:0x206] != b"HdrS":
        raise ValueError("not a bzImage: the setup header's signature is missing")
    setup_sects = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    payload = image[start : start + length]
    (size,) = struct.unpack("<I", payload[-4:])
    packed = payload[:-4]
    if packed.startswith(ZSTD_MAGIC):
        kernel = unzstd(packed, size)
    elif packed.startswith(LZ4_MAGIC):
        kernel = unlz4(packed, size)
    elif packed.startswith(b"\xfd7zXZ"):
        kernel = lzma.LZMADecompressor().decompress(packed)
    elif packed.startswith(b"\x1f\x8b"):
        kernel = gzip.decompress(packed)
    elif packed.startswith(b"BZh"):
        kernel = bz2.decompress(packed)
    else:
        raise ValueError("the payload's compression is not zstd, lz4, xz, gzip or bzip2")
    if not kernel.startswith(b"\x7fELF"):
        raise ValueError("the payload is not an ELF file")
    return kernel
