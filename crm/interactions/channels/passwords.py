"""Basic authentication, for providers that sign nothing: user and password stand in the URL that they are given."""

import base64
from typing import Final

from crm.interactions.channels import signatures
from crm.interactions.channels.deliveries import ChannelAccount, Delivery, SignatureInvalid

SECRET: Final = "credentials"  # noqa: S105 - the name of the secret
"""What stands between `https://` and `@` in the URL: `user:password`."""


def check(delivery: Delivery, account: ChannelAccount) -> None:
    """Raises SignatureInvalid."""
    expected = base64.b64encode(signatures.secret(account, SECRET))
    scheme, _, given = delivery.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise SignatureInvalid("The provider has to call with the user and the password in its URL.")
    signatures.check(given.strip(), [expected])


def headers(account: ChannelAccount) -> dict[str, str]:
    """The headers of a call with the account's own user and password. Raises SignatureInvalid without them."""
    return {"authorization": f"Basic {base64.b64encode(signatures.secret(account, SECRET)).decode()}"}
