"""What shows that a camera is down, and what does not show that it works again."""

from __future__ import annotations

from rhombus_dataset.building.circuit_breaker import CircuitBreakers


def test_an_answer_to_an_earlier_request_does_not_excuse_the_camera() -> None:
    """The source goes down while requests are in flight: their late answers are no reason to blame the frame."""
    breakers = CircuitBreakers()
    assert not breakers.failed(0, row=22, attempts_used=0, reason="503", now_s=10.0)
    assert not breakers.answered(0, now_s=10.1, sent_s=9.9)
    assert not breakers.failed(0, row=22, attempts_used=0, reason="503", now_s=10.2)
    assert breakers.failed(0, row=22, attempts_used=3, reason="503", now_s=10.3)
    assert breakers.is_down(0)
    assert breakers.answered(0, now_s=20.1, sent_s=20.0)
    assert not breakers.is_down(0)


def test_an_answer_to_a_later_request_puts_it_down_to_the_frame() -> None:
    breakers = CircuitBreakers()
    assert not breakers.failed(0, row=22, attempts_used=0, reason="503", now_s=10.0)
    assert not breakers.answered(0, now_s=10.2, sent_s=10.1)
    assert not breakers.failed(0, row=22, attempts_used=0, reason="503", now_s=10.3)
    assert not breakers.failed(0, row=22, attempts_used=3, reason="503", now_s=10.4)
    assert not breakers.is_down(0)
