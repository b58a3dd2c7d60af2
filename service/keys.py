"""API keys: who may evaluate, and who may read the metrics."""

import hmac
from collections.abc import Mapping, Sequence

from service.errors import Forbidden, Unauthenticated
from service.settings import ApiKey, Scope


class Keys:
    """The keys of this service. Without any, everything is open."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = [(each.key.get_secret_value().encode(), each.scopes) for each in keys]

    def require(self, headers: Mapping[str, str], scope: Scope) -> None:
        """Check the ``Authorization`` header.

        Raises:
            Unauthenticated: no key, or a wrong one.
            Forbidden: a key without the scope.
        """
        if not self._keys:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("send a key: Authorization: Bearer <key>")
        candidate = given.strip().encode()
        # All are compared, each in constant time: how long it takes says nothing about the keys.
        found = [scopes for key, scopes in self._keys if hmac.compare_digest(key, candidate)]
        if not found:
            raise Unauthenticated("the key is not known here")
        if not any(scope in scopes for scopes in found):
            raise Forbidden(f"the key does not have the scope '{scope}'")
