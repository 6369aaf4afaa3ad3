"""A metadata URL is read as libpq reads it, and holds no secret."""

from __future__ import annotations

import traceback

import pytest

from modyn.errors import ConfigError
from modyn.metadata.url import SECRETS, Url

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("postgresql://", {}),
        ("postgresql:///modyn", {"dbname": "modyn"}),
        ("postgres://h/d", {"host": "h", "dbname": "d"}),
        ("postgresql://me@h:5433/d", {"user": "me", "host": "h", "port": "5433", "dbname": "d"}),
        ("postgresql://me:@h/d", {"user": "me", "host": "h", "dbname": "d"}),
        ("postgresql://me%40corp@h/d%2Fe", {"user": "me@corp", "host": "h", "dbname": "d/e"}),
        ("postgresql://h/d%40e?user=me@corp", {"host": "h", "dbname": "d@e", "user": "me@corp"}),
        ("postgresql://h1:1,h2:2/d", {"host": "h1,h2", "port": "1,2", "dbname": "d"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": "5433", "dbname": "d"}),
        ("postgresql:///d?host=/a%20b/c", {"host": "/a b/c", "dbname": "d"}),
        (
            "postgresql://h/d?sslmode=verify-full&sslrootcert=/ca.pem",
            {"host": "h", "dbname": "d", "sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        ),
        ("host=h dbname='my db' user = me", {"host": "h", "dbname": "my db", "user": "me"}),
        ("service=metadata", {"service": "metadata"}),
        ("  postgresql://h/d ", {"host": "h", "dbname": "d"}),
        ("host=h passfile=/etc/pgpass", {"host": "h", "passfile": "/etc/pgpass"}),
    ],
)
def test_what_libpq_reads_is_read(text, parameters):
    url = Url.parse(text)

    assert dict(url.parameters) == parameters
    assert str(url) == url.conninfo == text.strip()
    assert Url.parse(url) is url
    assert Url.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:s3cret@h/d",
        "postgresql://me:s3cret@/d",
        "postgresql://me:s3%63ret@h/d",
        "postgresql://h/d?password=s3cret",
        "postgresql://h/d?pass%77ord=s3cret",
        "postgresql://h/d?sslpassword=s3cret",
        "host=h password=s3cret",
        "host=h password = 's3cret'",
        "password=s3cret",
        # A password with characters that end it early.
        "postgresql://me:s3cret@more@h/d",
        "postgresql://me:pa/s3cret@h/d",
        "postgresql://me:s3cret/pa@h/d",
        "postgresql://me:s3cret?pa@h/d",
        "postgresql://me:s3cret#pa@h/d",
        "postgresql://me:s3cret%@h/d",
        "postgresql://me:s3cret",
        "postgresql://me:s3cret@[::1/d",
        "host=h password=s3cret of mine",
        "host=h password='s3cret",
        "host=h pasword=s3cret",
        "host=h port=s3cret",
        "s3cret",
        "dbname='host=h password=s3cret'",
        "dbname=postgresql://me:s3cret@h/d",
        "postgresql:///postgresql%3A%2F%2Fme%3As3cret%40h",
        "mysql://me:s3cret@h/d",
        "jdbc:postgresql://h/d?password=s3cret",
        "postgresql+psycopg://me:s3cret@h/d",
        "sqlite:///s3cret",
        "postgresql://me@h/s3cret\nx",
    ],
)
def test_a_password_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigError, match=r"^metadata: ") as caught:
        Url.parse(text)

    # Of the frames only the test's own lines know it.
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None
    stack = traceback.TracebackException.from_exception(caught.value)
    assert "s3cret" not in "".join(stack.format())


def test_every_name_that_libpq_hides_is_refused():
    pq = pytest.importorskip("psycopg.pq")

    hidden = {o.keyword.decode() for o in pq.Conninfo.get_defaults() if o.dispchar == b"*"}

    assert hidden <= SECRETS


@pytest.mark.parametrize("text", ["", "  ", None, 7, b"postgresql://h/d"])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ConfigError, match="must be a URL"):
        Url.parse(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("postgresql://me@h:5433/d", "d at h:5433"),
        ("postgresql:///d?host=/run/pg", "d at /run/pg"),
        ("service=metadata", "service metadata"),
        ("postgresql://", "the default database at the default host"),
    ],
)
def test_messages_name_the_place(text, place):
    assert Url.parse(text).place == place
