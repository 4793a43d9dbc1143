# SPDX-License-Identifier: BSD-3-Clause
"""A guest's console by way of libvirtd, as `virsh console` has it.

A stream of libvirt carries the bytes, on a connection of its own, which no command holds up. It never
blocks: libvirt's event loop (events.py) calls when there is something to read. A call that waits for
bytes would not do: those that come just before it begins to wait do not wake it up. What came goes into
a pipe, from which Stream (ebbvm.py) reads, so text is waited for as everywhere; when the guest or
libvirtd ends, so does the text.

Threads: the event loop's, and that of whoever types. The pipe is guarded by the lock.
"""

import os
import threading

import libvirt

from ebbvm import TIMEOUT_S, Stream
from events import loop_start

READ = libvirt.VIR_STREAM_EVENT_READABLE
WRITE = libvirt.VIR_STREAM_EVENT_WRITABLE
ENDS = libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
LATER = -2  # instead of bytes: there are none now, or no room for any


class Console:
    def __init__(self, uri, name):
        loop_start()
        self._connection = libvirt.open(uri)
        self._stream = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain = self._connection.lookupByName(name)
        domain.openConsole(None, self._stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        self._lock = threading.Lock()
        self._room = threading.Event()
        self._end, write = os.pipe()
        self._pipe = open(write, "wb", buffering=0)
        self._text = Stream(self._end)
        self._stream.eventAddCallback(READ | ENDS, self._came, None)

    def _came(self, _stream, events, _opaque):
        if events & WRITE:
            self._stream.eventUpdateCallback(READ | ENDS)
            self._room.set()
        with self._lock:
            try:
                while not self._pipe.closed:
                    data = self._stream.recv(65536)
                    if data == LATER:
                        break
                    if not data:
                        self._finish()
                        break
                    self._pipe.write(data)
            except libvirt.libvirtError:
                self._finish()

    def _finish(self):
        """No more text; with the lock held."""
        if not self._pipe.closed:
            self._pipe.close()
            try:
                self._stream.eventRemoveCallback()
            except libvirt.libvirtError:
                pass  # it went with the connection

    @property
    def text(self):
        return self._text.text

    def expect(self, pattern, timeout=None):
        """The match of PATTERN in what came after the previous match."""
        return self._text.expect(pattern, timeout)

    def type(self, line):
        data = line.encode() + b"\r"
        while data:
            self._room.clear()
            sent = self._stream.send(data)
            if sent == LATER:
                self._stream.eventUpdateCallback(READ | WRITE | ENDS)
                assert self._room.wait(TIMEOUT_S), "the console takes nothing"
            else:
                data = data[sent:]

    def close(self):
        with self._lock:
            self._finish()
        self._text.finish()
        os.close(self._end)
        try:
            self._stream.abort()
        except libvirt.libvirtError:
            pass  # it ended by itself
        try:
            self._connection.close()
        except libvirt.libvirtError:
            pass  # its libvirtd is gone
