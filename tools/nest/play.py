# SPDX-License-Identifier: BSD-3-Clause
"""A person's terminal, connected to programs in a host.

shell(host) is a shell on a terminal of its own. play(host, command, monitor) starts a monitor
and shows its standard streams (the guest's serial port) and, in turn, its human monitor's socket:

    Ctrl-a c    change between the guest and the monitor
    Ctrl-a x    end
    Ctrl-a a    send Ctrl-a

The terminal is put back as it was on every way out. Output comes on the link's thread and is
written there; input is read here, woken through a pipe when the program ends.
"""

import os
import select
import shutil
import signal
import sys
import termios
import tty

ESCAPE = b"\x01"
HELP = "Ctrl-a c: guest or monitor, Ctrl-a x: end, Ctrl-a a: Ctrl-a"


def say(text):
    """Show a line of our own on a terminal that may be raw."""
    os.write(1, f"\r\n[{text}]\r\n".encode())


class Terminal:
    """The person's terminal in raw mode, showing one of several streams at a time."""

    def __init__(self, streams):
        self.streams = streams
        self.shown = 0
        self.wake_read, self.wake_write = os.pipe()
        self.saved = termios.tcgetattr(0) if os.isatty(0) else None

    def __enter__(self):
        if self.saved is not None:
            tty.setraw(0)
            signal.signal(signal.SIGWINCH, lambda *_: self.resize())
            self.resize()
        self.show(0)
        return self

    def __exit__(self, *failure):
        for stream in self.streams:
            stream.attach(None)
        if self.saved is not None:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
        os.close(self.wake_read)
        os.close(self.wake_write)

    def resize(self):
        size = shutil.get_terminal_size()
        self.streams[0].resize(size.lines, size.columns)

    def show(self, index):
        """Show stream INDEX; the others keep their output until they are shown."""
        self.streams[self.shown].attach(None)
        self.shown = index
        self.streams[index].attach(self.output)

    def output(self, data):
        if data:
            os.write(1, data)
        else:
            os.write(self.wake_write, b"\0")

    def typed(self, data):
        """Act on what was typed; False ends."""
        while data:
            plain, escape, data = data.partition(ESCAPE)
            if plain:
                self.streams[self.shown].write(plain)
            if not escape:
                return True
            key = data[:1] or os.read(0, 1)
            data = data[1:]
            if key == b"x" or not key:
                return False
            if key == b"a":
                self.streams[self.shown].write(ESCAPE)
            elif key == b"c" and len(self.streams) > 1:
                target = (self.shown + 1) % len(self.streams)
                say("the monitor" if target else "the guest")
                self.show(target)
            else:
                say(HELP)
        return True

    def loop(self):
        """Pass bytes until the first stream ends or the person ends it."""
        while not self.streams[0].ended:
            ready, _, _ = select.select([0, self.wake_read], [], [])
            if self.wake_read in ready:
                os.read(self.wake_read, 1)
                if self.shown and self.streams[self.shown].ended:
                    say("the monitor's connection ended")
                    self.show(0)
            elif not self.typed(os.read(0, 4096)):
                return


def connect_terminal(streams):
    """Give the person's terminal to STREAMS; returns when the first one ends."""
    with Terminal(streams) as terminal:
        terminal.loop()


def shell(host):
    """Give the person a shell in the host; returns its exit status."""
    sys.stdout.write("Ctrl-a x leaves at once.\n")
    sys.stdout.flush()
    stream = host.spawn("shell", ["sh", "-i"], pty=True)
    connect_terminal([stream])
    return stream.status or 0


def play(host, command, monitor=None):
    """Run COMMAND with the person at the guest's console and at the monitor's prompt."""
    stream = host.spawn("monitor", command, pty=True)
    streams = [stream]
    if monitor:
        streams.append(host.connect(host.path(monitor), 30, "the monitor's prompt"))
    sys.stdout.write(HELP + "\n")
    sys.stdout.flush()
    connect_terminal(streams)
    return stream.status or 0
