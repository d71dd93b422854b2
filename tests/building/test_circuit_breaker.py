"""What shows that a camera is down, and what does not show that it works again."""

from __future__ import annotations

from rhombus_dataset.building.circuit_breaker import DOWN_AFTER_ATTEMPTS, FIRST_PAUSE_S, CircuitBreakers


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


def test_little_evidence_gives_a_short_pause() -> None:
    """One attempt of one is all that a frame has: the camera is probed soon."""
    one, many = CircuitBreakers(), CircuitBreakers()
    assert one.failed(0, row=1, attempts_used=1, reason="503", now_s=0.0)
    for n in range(DOWN_AFTER_ATTEMPTS):
        assert many.failed(0, row=n, attempts_used=0, reason="503", now_s=0.0) == (n == DOWN_AFTER_ATTEMPTS - 1)
    first_s = FIRST_PAUSE_S / DOWN_AFTER_ATTEMPTS
    assert (one.due(first_s - 0.01), one.due(first_s)) == (None, 0)
    assert (many.due(FIRST_PAUSE_S - 0.01), many.due(FIRST_PAUSE_S)) == (None, 0)
    one.probing(0, row=2)
    assert one.failed(0, row=2, attempts_used=1, reason="503", now_s=10.0)
    assert (one.due(10 + 2 * first_s - 0.01), one.due(10 + 2 * first_s)) == (None, 0)
