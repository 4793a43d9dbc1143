# SPDX-License-Identifier: BSD-3-Clause
"""A guest's console by way of libvirtd, as `virsh console` has it.

A stream of libvirt carries the bytes. A thread moves what comes into a pipe, from which Stream
(ebbvm.py) reads; so text is waited for as everywhere. A connection of its own, which no command
holds up. When the guest or libvirtd ends, so does the text.
"""

import os
import threading

import libvirt

from ebbvm import TIMEOUT_S, Stream
from events import loop_start


class Console:
    def __init__(self, uri, name):
        loop_start()
        self._connection = libvirt.open(uri)
        self._stream = self._connection.newStream()
        domain = self._connection.lookupByName(name)
        domain.openConsole(None, self._stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        self._end, write = os.pipe()
        self._pump = threading.Thread(target=self._move, args=(write,), daemon=True)
        self._pump.start()
        self._text = Stream(self._end)

    def _move(self, write):
        with open(write, "wb", buffering=0) as out:
            while True:
                try:
                    data = self._stream.recv(4096)
                except libvirt.libvirtError:
                    return  # closed, or the other side is gone
                if not data:
                    return
                out.write(data)

    @property
    def text(self):
        return self._text.text

    def expect(self, pattern, timeout=None):
        """The match of PATTERN in what came after the previous match."""
        return self._text.expect(pattern, timeout)

    def type(self, line):
        data = line.encode() + b"\r"
        while data:
            data = data[self._stream.send(data) :]

    def close(self):
        try:
            self._stream.abort()
        except libvirt.libvirtError:
            pass  # it ended by itself
        self._pump.join(TIMEOUT_S)
        self._text.finish()
        os.close(self._end)
        try:
            self._connection.close()
        except libvirt.libvirtError:
            pass  # its libvirtd is gone
