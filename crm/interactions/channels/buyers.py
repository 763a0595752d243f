"""Who somebody is by what a shop knows of them."""

from collections.abc import Sequence

from crm.interactions.channels.events import Address, Person
from crm.interactions.channels.payloads import Json, text


def person(
    contact: Json,
    *,
    known: Address | None = None,
    names: Sequence[str] = ("first_name", "last_name"),
    locale: str | None = None,
) -> Person | None:
    """Somebody by the id that the shop knows them by, and by the e-mail and phone that they typed there themselves.

    None where there is none of these.
    """
    addresses = [known] if known is not None else []
    addresses += [Address(kind=kind, value=value) for kind in ("email", "phone") if (value := text(contact, kind))]
    name = " ".join(one.strip() for each in names if (one := text(contact, each)))
    return Person(addresses=addresses, name=name or text(contact, "name"), locale=locale) if addresses else None
