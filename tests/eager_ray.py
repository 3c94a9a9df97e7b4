"""A stand-in of Ray, which needs no cluster."""

from __future__ import annotations

import time
from types import ModuleType


class EagerRay(ModuleType):
    """The part of Ray that is used, doing tasks at once, in this process."""

    def __init__(self, answers: bool = True) -> None:
        super().__init__("ray")
        self.asked: list[dict] = []
        self.joined: list[str | None] = []
        self.answers = answers
        self.most = 0
        self.running = 0

    def is_initialized(self) -> bool:
        return bool(self.joined)

    def init(self, address: str | None, log_to_driver: bool, logging_level: int) -> None:
        del logging_level
        if not self.answers:
            time.sleep(60)
        self.joined.append(address)

    @staticmethod
    def nodes():
        return [
            {"Alive": True, "Resources": {"CPU": 4.0, "memory": 8.0 * 2**30}},
            {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 8.0, "memory": 2.0**40}},
        ]

    def remote(self, **needs):
        self.asked.append(needs)

        def wrap(function):
            task = ModuleType("task")

            def start(job):
                self.running += 1
                self.most = max(self.most, self.running)
                return job.label, lambda: function(job)

            task.remote = start
            return task

        return wrap

    def wait(self, references, num_returns, timeout=None):
        self.running -= num_returns
        return references[:num_returns], references[num_returns:]

    @staticmethod
    def get(reference):
        if reference[0] == "dies":
            raise RuntimeError("The node died.\nMuch more is said of it.")
        return reference[1]()
