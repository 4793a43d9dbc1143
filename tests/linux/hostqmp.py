# SPDX-License-Identifier: BSD-3-Clause
"""The strict QMP client of tests/vm with a machine in a host: its bytes go through the relay."""

import nest
import qmp

TIMEOUT_S = 120


class HostQmp(qmp.Session):
    """A session with the machine whose words has words(HOST), past its negotiation."""

    SOCKET = "qmp.sock"

    def __init__(self, host, timeout=TIMEOUT_S, socket=SOCKET):
        self.stream = host.connect(host.path(socket))
        super().__init__(timeout=timeout)
        self.negotiate()

    @classmethod
    def words(cls, host, socket=SOCKET):
        """The option that makes the monitor listen."""
        return ["-qmp", f"unix:{host.path(socket)},server=on,wait=off"]

    def raw(self, data, timeout=None):
        self.stream.write(data)

    def send_fd(self, data, *fds):
        raise NotImplementedError("descriptors stay on this machine")

    def read_line(self, timeout=None, what="reading"):
        try:
            return self.stream.expect(rb"[^\n]*\n", timeout or self.timeout).group()
        except nest.NestTimeout as late:
            raise qmp.QmpTimeout(f"{what}: {late}; kept events {list(self.events)!r}") from late
        except nest.StreamEnded as end:
            raise qmp.QmpClosed(f"{what}: closed by the monitor") from end

    def close(self):
        if not self.stream.ended:
            self.stream.kill()

    def job(self, job):
        """JobInfo of JOB."""
        (found,) = [info for info in self.execute("query-jobs") if info["id"] == job]
        return found

    def concluded(self, job):
        """Wait for the end of JOB, forget it, and return its last JobInfo."""
        self.wait_event("JOB_STATUS_CHANGE", {"id": job, "status": "concluded"})
        info = self.job(job)
        self.execute("job-dismiss", id=job)
        self.wait_event("JOB_STATUS_CHANGE", {"id": job, "status": "null"})
        return info
