"""Search over the tenant's documents."""

from __future__ import annotations

import logging
from typing import Protocol
from uuid import UUID

from fastapi import APIRouter, Request, Response

from producers.edge.caller import Asking
from producers.edge.openapi import takes_json
from producers.edge.passages import passage_fields
from producers.edge.problems import Unavailable
from producers.edge.reads.bounded import within
from producers.edge.requests import JsonBodies
from producers.edge.responses import json_response
from providers.ports import ProviderError
from retrieval.search import EVERY, Found, ScoredPassage, SearchMode
from schemas.errors import Retry
from schemas.http import FoundPassage, SearchFilters, SearchRequest, SearchResults
from storage.ports import DocumentFilter

logger = logging.getLogger(__name__)


class Searching(Protocol):
    """What finds passages; it must not hold up the event loop."""

    async def find(
        self,
        tenant_id: UUID,
        query: str,
        *,
        limit: int = 10,
        mode: SearchMode = "hybrid",
        documents: DocumentFilter = EVERY,
        rerank: bool = False,
    ) -> Found:
        """The best visible passages, best first. Raises: Retry; ProviderError if the embedding model refuses."""
        ...


class SearchRoutes:
    """`/search`."""

    def __init__(self, searcher: Searching, *, timeout_s: float, json: JsonBodies) -> None:
        self._searcher = searcher
        self._timeout_s = timeout_s
        self._json = json

    def add_to(self, router: APIRouter) -> None:
        """Declares the route."""
        router.add_api_route(
            "/search",
            self.search,
            methods=["POST"],
            response_model=SearchResults,
            openapi_extra=takes_json(SearchRequest),
        )

    async def search(self, request: Request, caller: Asking) -> Response:
        """Find the passages that answer a question."""
        sent = await self._json.read(request, caller, SearchRequest)
        work = self._searcher.find(
            caller.principal.tenant_id,
            sent.query,
            limit=sent.limit,
            mode=sent.mode,
            documents=_filter(sent.filters),
            rerank=sent.rerank,
        )
        try:
            found = await within(self._timeout_s, work)
        except (Retry, TimeoutError) as error:
            raise Unavailable("search_unavailable", "search does not answer; repeat the request soon") from error
        except ProviderError as error:
            logger.error("search: %s", error)  # noqa: TRY400 - the operators' settings are wrong, not the program
            detail = "the embedding model refuses; search by text alone (mode: text), and tell the operators"
            raise Unavailable("search_unavailable", detail) from error
        return json_response(SearchResults(items=[_found(item) for item in found.items], reranked=found.reranker))


def _filter(sent: SearchFilters) -> DocumentFilter:
    return DocumentFilter(
        document_ids=None if sent.document_ids is None else tuple(sent.document_ids),
        types=None if sent.types is None else tuple(sent.types),
        tags=tuple(sent.tags),
        attributes=tuple(sent.attributes.items()),
        created_after=sent.created_after,
        created_before=sent.created_before,
    )


def _found(item: ScoredPassage) -> FoundPassage:
    return FoundPassage(**passage_fields(item.passage), score=item.score)
