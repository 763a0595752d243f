"""`…/assistant-replies`: the bot answers a contact's questions, or hands them over to people."""

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from litestar import Response
from litestar.params import FromPath
from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from crm.api import paging
from crm.api.interactions import Channel
from crm.api.paging import Cursor, Limit, Page
from crm.api.routes import ContactId, get, post
from crm.api.schemas import Body, either
from crm.assistant import replies
from crm.assistant.language_model import LanguageModel
from crm.assistant.replies import QUESTION_MAX, AssistantReply, NoQuestion, Question, ReplyNotFound
from crm.contacts.contacts import ContactNotFound
from crm.db import idempotency
from crm.db.session import Database, Session
from crm.interactions.timeline import InteractionNotFound

_PRINTED: Final = r"[^\s\x1c-\x1f\x85\x00]"


def _asked(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("nul_character", "must not contain the NUL character")
    if not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value.strip()


QuestionText = Annotated[
    str, AfterValidator(_asked), StringConstraints(min_length=1, max_length=QUESTION_MAX),
    Field(json_schema_extra={"pattern": _PRINTED}),
]  # fmt: skip
ReplyLocale = Annotated[
    str, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,4}$"),
    Field(examples=["id-ID"]),
]  # fmt: skip
"""The language to answer in; of those that the bot does not speak, the question's own words decide."""


class NewAssistantReply(Body):
    """What a contact asks: a text, or a message of theirs that is on the timeline already.

    The channel is that of the message, or of the text. Without a `locale` the language is that of the question.
    """

    model_config = either({"text": "string", "interaction_id": "string"})

    text: QuestionText | None = None
    interaction_id: UUID | None = None
    channel: Channel = "chat"
    thread_id: UUID | None = None
    locale: ReplyLocale | None = None

    @model_validator(mode="after")
    def _one_question(self) -> "NewAssistantReply":
        if (self.text is None) == (self.interaction_id is None):
            raise PydanticCustomError("text_or_interaction", "send either text or interaction_id")
        return self


@post(
    "/contacts/{contact_id:uuid}/assistant-replies",
    scopes={"interactions:write", "loyalty:read"},
    problems=(ContactNotFound, InteractionNotFound, NoQuestion),
    headers=("Location",),
)
async def ask_assistant(
    database: Database, model: LanguageModel | None, contact_id: FromPath[ContactId], data: NewAssistantReply, by: str,
    now: datetime, once: idempotency.Request | None,
) -> Response[AssistantReply]:  # fmt: skip
    """Let the bot answer a contact's question.

    It answers from published articles and from the contact's own points, tier and orders, and says on what the answer
    rests. It hands over, as a case, what it is not sure of, complaints, and whoever wants a person. Question and
    answer stand on the timeline. Send the answer on to the contact: it is not sent from here.
    """
    question = Question(data.text, data.interaction_id, data.channel, data.thread_id, data.locale)
    reply = await replies.answer(
        database, contact_id=contact_id, question=question, model=model, by=by, once=once, now=now
    )
    return Response(reply, headers={"Location": f"/v1/contacts/{reply.contact_id}/assistant-replies/{reply.id}"})


@get("/contacts/{contact_id:uuid}/assistant-replies", scopes={"interactions:read"}, problems=(ContactNotFound,))
async def list_assistant_replies(
    session: Session, contact_id: FromPath[ContactId], cursor: Cursor = None, limit: Limit = 50
) -> Page[AssistantReply]:
    """List what a contact asked the bot, newest first."""
    before = paging.decode(cursor, UUID)
    found = await replies.page(session, contact_id=contact_id, before=before[0] if before else None, limit=limit + 1)
    return paging.page_of(found, limit=limit, key=lambda reply: (reply.id,))


@get(
    "/contacts/{contact_id:uuid}/assistant-replies/{reply_id:uuid}",
    scopes={"interactions:read"},
    problems=(ReplyNotFound,),
)
async def get_assistant_reply(
    session: Session, contact_id: FromPath[ContactId], reply_id: FromPath[UUID]
) -> AssistantReply:
    """Read what the bot answered."""
    return await replies.get(session, contact_id=contact_id, reply_id=reply_id)


handlers = [ask_assistant, list_assistant_replies, get_assistant_reply]
