"""Whole messages, whatever the pieces they arrive in."""

import socket

import pytest

from workers.adapters.channel import Channel, packed

SAID = packed(3, b"urgent-m1-AAA", b"", b"\x00\xff" * 3) + packed(1) + packed(255, b"x" * 70_000)
HEARD = [(3, [b"urgent-m1-AAA", b"", b"\x00\xff" * 3]), (1, []), (255, [b"x" * 70_000])]


@pytest.fixture
def ends() -> tuple[socket.socket, Channel]:
    """What a peer writes into, and the channel at the other end."""
    near, far = socket.socketpair()
    return far, Channel(near)


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_messages_are_heard_whole_and_in_order(ends: tuple[socket.socket, Channel], size: int) -> None:
    """Rule: a stream has no edges of its own; before its last byte a message is not heard."""
    far, channel = ends
    heard = []
    for place in range(0, len(SAID), size):
        far.sendall(SAID[place : place + size])
        assert channel.take_in()
        while (message := channel.heard()) is not None:
            heard.append(message)
        if size == 1 and place == 20:
            assert heard == []
    far.close()

    assert heard == HEARD
    assert channel.take_in() is False
    channel.close()


def test_half_a_message_is_none_when_the_other_end_has_gone(ends: tuple[socket.socket, Channel]) -> None:
    """Rule: a horse that dies in the middle of its answer has not answered."""
    far, channel = ends
    far.sendall(packed(2, b"finished")[:-1])
    far.close()

    assert channel.listen() is None
    channel.close()


def test_what_is_said_is_listened_to() -> None:
    """Rule: both ends speak alike."""
    near, far = socket.socketpair()
    one, other = Channel(near), Channel(far)
    one.say(4, b"[2]")

    assert other.listen() == (4, [b"[2]"])
    one.close()
    assert other.listen() is None
    other.close()
