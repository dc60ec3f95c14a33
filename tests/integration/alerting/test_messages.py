"""The page of messages shows what the shipped rules and templates say."""

from tests.messages import PAGE, page


def test_the_page_shows_the_messages_as_they_are() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.messages"
