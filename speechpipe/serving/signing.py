"""The secret that signs callbacks and the alarm webhook, from the settings or a file."""

from speechpipe.config import Settings
from speechpipe.errors import InvalidParameter
from speechpipe.foundation.outgoing import load_secret

FILE = "signing.key"


def signing_secret(settings: Settings) -> bytes:
    """Return `SIGNING_SECRET`, or the content of `signing.key` in the state directory, which the first call creates.

    Raises:
        InvalidParameter: the file can be neither read nor written, or is empty.
    """
    if settings.signing_secret:
        return settings.signing_secret.encode()
    path = settings.state_dir / FILE
    try:
        secret = load_secret(path)
    except OSError as error:
        message = f"{path} can be neither read nor written ({error.strerror or error}): set SPEECHPIPE_SIGNING_SECRET"
        raise InvalidParameter(message, param="signing_secret") from error
    if not secret:
        raise InvalidParameter(f"{path} is empty: delete it, or write a secret into it", param="signing_secret")
    return secret
