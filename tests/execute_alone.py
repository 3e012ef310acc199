"""Execute one notebook in place: `python execute_alone.py NOTEBOOK`.

A script of its own, so that a test can choose its folder and its environment.
"""

import sys
import time
from queue import Empty

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient import NotebookClient
from traitlets import Type

LIMIT = 300  # seconds a cell may take


class AttentiveChannel(AsyncZMQSocketChannel):
    """Looks again every second.

    At an `interact`, nbclient answers the widget over the socket on which it awaits
    the cell's reply. That can swallow the reply's wake-up, and a plain channel would
    then sleep until its time is over, although the reply is there.
    """

    async def get_msg(self, timeout: float | None = None):
        end = time.monotonic() + (LIMIT if timeout is None else timeout)
        while True:
            left = end - time.monotonic()
            try:
                return await super().get_msg(timeout=min(1, max(left, 0)))
            except Empty:
                if left <= 0:
                    raise


class AttentiveClient(AsyncKernelClient):
    shell_channel_class = Type(AttentiveChannel)


def main(path: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_name="python3")
    manager.client_factory = AttentiveClient
    NotebookClient(notebook, km=manager, timeout=LIMIT).execute()
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1])
