"""The log: what writes to Kafka and reads from it."""

from storage.log.header_names import tolerate_header_names

tolerate_header_names()
