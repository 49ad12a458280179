"""message search: words of messages, each with its user's, so that a search costs what the user has said

`search_text` is a text as it is compared: without case, accents and punctuation, every character of a script that is
written without spaces (and of Hangul, whose particles are written on) a word of its own. It is the same under every
locale of the server, and needs PostgreSQL 17 or newer in UTF-8.

The words stand in a table of their own, which the consumer `message_search` fills after the fact (decision 0013). What
waits to be sorted into the index is read by every search: it is bounded (512 kB).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

_JOINED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf"
    r"\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
)
# Text in ASCII alone, the most of it, is spared the folding of accents. 100,000 characters give at most 900 kB of words
# (the letters that fold into nine bytes each); PostgreSQL takes 1 MB. Words of more than 2,046 bytes are left out.
_FUNCTIONS = (
    rf"""
CREATE FUNCTION search_text(t text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(
  CASE WHEN octet_length(t) = length(t) THEN lower(t COLLATE pg_c_utf8)
  ELSE normalize(regexp_replace(normalize(lower(t COLLATE pg_c_utf8), NFKD), '[\u0300-\u036f]', '', 'g'), NFC) END
  COLLATE pg_c_utf8, '([{_JOINED}])|[[:punct:]]', ' \1 ', 'g')
""",
    """
CREATE FUNCTION message_words(user_id uuid, content text, partial_content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN array_to_tsvector(ARRAY[user_id::text])
  || to_tsvector('simple', search_text(left(coalesce(nullif(content, ''), partial_content, ''), 100000)))
""",
)


def upgrade() -> None:
    """Up. Of the messages that stand, the words are found here, once."""
    for function in _FUNCTIONS:
        op.execute(function)
    op.create_table(
        "message_words",
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("words", postgresql.TSVECTOR(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.execute(
        "INSERT INTO message_words"
        " SELECT m.id, m.tenant_id, message_words(m.user_id, m.content, m.partial_content), m.updated_at"
        " FROM messages m JOIN sessions s ON s.id = m.session_id AND s.deleted_at IS NULL"
        " WHERE coalesce(nullif(m.content, ''), m.partial_content, '') <> ''"
    )
    op.execute(
        "CREATE INDEX message_words_words ON message_words USING gin (words) WITH (gin_pending_list_limit = 512)"
    )


def downgrade() -> None:
    """Down."""
    op.drop_table("message_words")
    op.execute("DROP FUNCTION message_words(uuid, text, text)")
    op.execute("DROP FUNCTION search_text(text)")
