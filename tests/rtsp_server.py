"""A camera that speaks RTSP, H.264 inside, for tests: rtsp_server.py PORT RATE FIRST; stays until it is killed.

Every connection gets gray frames from its first one on: as light as FIRST, a step more, and so on, see `luma`. Runs
under the Python that Debian's python3-gi and gir1.2-gst-rtsp-server-1.0 are for, and needs nothing else. Prints `ready`
once it listens.
"""

from __future__ import annotations

import sys

WIDTH, HEIGHT = 96, 64
STEP, CYCLE = 8, 12


def luma(first: int, number: int) -> int:
    """How light a frame is, from 16 to 235 as cameras have it."""
    return first + STEP * (number % CYCLE)


def main(port: str, rate: int, first: int) -> None:
    """Serves rtsp://127.0.0.1:PORT/live."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    encoder = "x264enc tune=zerolatency key-int-max=8 ! rtph264pay name=pay0 config-interval=1"
    size = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={rate}/1"
    pipeline = f"( appsrc name=frames is-live=true format=time caps={size} ! {encoder} )"

    class Camera(GstRtspServer.RTSPMediaFactory):
        def do_create_element(self, _address):  # a method of the library
            return Gst.parse_launch(pipeline)

        def do_configure(self, media):  # likewise
            numbers = iter(range(sys.maxsize))
            media.get_element().get_by_name("frames").connect("need-data", self.push, numbers)

        def push(self, source, _size, numbers):
            number = next(numbers)
            colors = bytes([128]) * (WIDTH * HEIGHT // 2)
            frame = Gst.Buffer.new_wrapped(bytes([luma(first, number)]) * (WIDTH * HEIGHT) + colors)
            frame.pts, frame.duration = number * Gst.SECOND // rate, Gst.SECOND // rate
            source.emit("push-buffer", frame)

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/live", Camera())
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
