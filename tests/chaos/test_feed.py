"""What a run is fed with: two posts of one number would be one post, and the run would wait for the other for ever."""

from datetime import UTC, datetime

from tests.chaos.feed import Feed


def test_posts_that_are_made_at_once_have_numbers_of_their_own() -> None:
    """Whatever the dice say: each number ends in how many posts were made before it."""
    feed = Feed(20141122)
    posts = [post for _ in range(20) for post in feed.some(5, datetime(2026, 1, 5, 15, tzinfo=UTC))]
    numbers = [int(post.message_id.removeprefix("chaos-")) for post in posts]

    assert [number % 10_000_000 for number in numbers] == list(range(100))
    assert feed.made == posts
