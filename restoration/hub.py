"""Restorers on the Hugging Face Hub: one weights file per repository, `model.safetensors`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from huggingface_hub import HfApi, errors
from torch import nn

from restoration.errors import UserError
from restoration.weights_file import PREFIX, write_weights

FILE = "model.safetensors"


class HubMixin(nn.Module):
    """What a restorer inherits to be shared. It has `load(path, device, trust)` and, once loaded, a `config`.

    Attributes:
        images_seen: in training, if the checkpoint that it was loaded from says so.
    """

    images_seen: int | None = None

    def save(self, path: str | Path) -> None:
        """Writes a weights file that `load` reads: weights rounded to bfloat16, and the config.

        Args:
            path: ends in .safetensors; an existing file is replaced.

        Raises:
            UserError: the restorer was not loaded from a checkpoint, so it has no config.
        """
        config: dict[str, Any] | None = getattr(self, "config", None)
        if config is None:
            raise UserError("this restorer has no config; load it from a checkpoint of its training")
        state = {PREFIX + name: value.cpu() for name, value in self.state_dict().items()}
        images_seen = self.images_seen or config.get("run", {}).get("images_seen")
        write_weights({"state_dict": state, "config": config, "images_seen": images_seen}, Path(path))

    def push_to_hub(self, repo: str, private: bool | None = None, token: str | None = None) -> str:
        """Uploads the weights file (`save`). The repository is made if it is missing; a file in it is replaced.

        Args:
            repo: "name" or "owner/name".
            private: of a new repository; None takes the account's default.
            token: of a Hugging Face account; None takes HF_TOKEN, or that of `hf auth login`.

        Returns:
            The address of the commit.

        Raises:
            UserError: no config (`save`), no network, no token, or the Hub refuses.
        """
        with TemporaryDirectory() as folder:
            self.save(Path(folder) / FILE)
            return self._upload(Path(folder) / FILE, repo, private, token)

    @staticmethod
    def _upload(path: Path, repo: str, private: bool | None, token: str | None) -> str:
        with _one_line(repo):
            api = HfApi(token=token, library_name="restoration")
            name = api.create_repo(repo, private=private, exist_ok=True).repo_id
            uploaded = api.upload_file(
                path_or_fileobj=path, path_in_repo=FILE, repo_id=name, commit_message="Upload restorer"
            )
            return str(uploaded.commit_url)

    @classmethod
    def from_hub(
        cls,
        repo: str | Path,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        trust: Any = None,
        token: str | None = None,
    ) -> Self:
        """The restorer of a Hub repository, or of a folder that holds `model.safetensors`.

        The file is downloaded once and is checked like any other: see `load`.

        Args:
            repo: "owner/name", or a folder.
            revision: a branch, tag or commit; None is the newest.
            device, trust: as in `load`.
            token: for private repositories; None takes HF_TOKEN, or that of `hf auth login`.

        Raises:
            UserError: no such repository or file, no network, or as `load`.
        """
        path = str(Path(repo) / FILE)
        if not Path(repo).is_dir():
            with _one_line(repo):
                api = HfApi(token=token, library_name="restoration")
                path = api.hf_hub_download(str(repo), FILE, revision=revision)
        return cls.load(path, device, trust)  # type: ignore[attr-defined]


@contextmanager
def _one_line(repo: str | Path) -> Iterator[None]:
    """The Hub's errors as one line each: what was wrong, and what to do."""
    try:
        yield
    except (errors.HTTPError, errors.EntryNotFoundError, ValueError, OSError) as error:
        raise UserError(f"{repo}{_reason(error)}") from error


def _reason(error: Exception) -> str:
    login = "log in with `hf auth login`, or set HF_TOKEN"
    match error:
        case errors.GatedRepoError():
            return f": ask for access on its page, then {login}"
        case errors.RepositoryNotFoundError():
            return f": no such repository on the Hub, or it is private; check the name, or {login}"
        case errors.RevisionNotFoundError():
            return " has no such revision; give a branch, a tag or a commit"
        case errors.LocalEntryNotFoundError():
            return " is not downloaded yet, and the Hub cannot be reached; check the network"
        case errors.EntryNotFoundError():
            return f" has no {FILE}; give a repository that push_to_hub wrote"
        case errors.HfHubHTTPError():
            code, said = error.response.status_code, (error.server_message or "").partition("\n")[0]
            return f": the Hub refused ({code} {said}); {login if code in (401, 403) else 'try again later'}"
        case ValueError():  # HFValidationError
            return ": give a repository as owner/name, or a folder that exists"
        case _:
            return f": the Hub cannot be reached ({type(error).__name__}); check the network"
