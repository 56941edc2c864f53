"""What counts as verified, and what is said of licences."""

import json
import os
import warnings

import pytest
from fault_server import FaultServer
from fetching import CONTENT, DIGEST, NAME, flip, get, wanted

from antialiased_zoo.errors import PinError, SourcesFailedError
from antialiased_zoo.weights import hub
from antialiased_zoo.weights.hub import cache, stamps

pytestmark = pytest.mark.usefixtures("fetching_server")


class TestTrust:
    def test_a_copy_put_in_by_hand_is_checked_and_used(self) -> None:
        cache.make(cache.folder())
        (cache.folder() / NAME).write_bytes(CONTENT)
        assert get("https://no-such-host.invalid/x").read_bytes() == CONTENT

    def test_a_wrong_copy_is_quarantined_and_replaced(self, server: FaultServer) -> None:
        cache.make(cache.folder())
        (cache.folder() / NAME).write_bytes(CONTENT[:-1])
        with pytest.warns(UserWarning, match=r"net\.pth\.bad"):
            assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT
        assert (cache.folder() / f"{NAME}.bad").read_bytes() == CONTENT[:-1]

    def test_the_stamp_spares_hashing_until_it_no_longer_fits(
        self, server: FaultServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed = []
        real = stamps.sha256
        monkeypatch.setattr("antialiased_zoo.weights.hub.stamps.sha256", lambda file: hashed.append(1) or real(file))
        path = get(f"{server.url}/good/{NAME}")
        hashed.clear()
        get(f"{server.url}/good/{NAME}")
        assert hashed == []
        os.utime(path, ns=(1, 1))
        get(f"{server.url}/good/{NAME}")
        assert hashed == [1]

    def test_a_flipped_bit_is_caught_at_load(self, server: FaultServer) -> None:
        flip(get(f"{server.url}/good/{NAME}"))
        assert hub.cached(wanted("https://x.invalid/x")) is None
        with pytest.warns(UserWarning, match=r"\.bad"):
            assert get(f"{server.url}/good/{NAME}").read_bytes() == CONTENT

    def test_a_flip_that_keeps_the_stamp_is_caught_by_verify(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        flip(path, quietly=True)
        assert hub.cached(wanted("https://x.invalid/x")) is None  # the time of change cannot be set back
        stamps.write(path, stamps.Stamp.of(DIGEST, path.stat()))  # as who can write to the folder may claim
        assert hub.cached(wanted("https://x.invalid/x")) == path
        (verdict,) = hub.verify([wanted("https://x.invalid/x")])
        assert (verdict.status, verdict.path) == ("quarantined", path)
        assert not path.exists()
        assert path.with_name(f"{NAME}.bad").exists()

    def test_verify_accepts_what_is_right_and_passes_over_what_is_not_there(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        files = [wanted("https://x.invalid/x"), wanted("https://x.invalid/x", name="absent.pth")]
        assert list(hub.verify(files)) == [hub.Verdict(path, "ok", DIGEST)]

    def test_replaced_file_of_same_size_and_time(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}")
        before = path.stat()
        other = path.with_name("other")
        other.write_bytes(bytes(len(CONTENT)))
        os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
        os.replace(other, path)  # another inode
        assert hub.cached(wanted("https://x.invalid/x")) is None

    @pytest.mark.parametrize("text", ["", "null", "[]", '{"sha256": 3}', "\x00", '{"sha256": "' + "0" * 64 + '"}'])
    def test_a_damaged_stamp_means_hashing_again(self, server: FaultServer, text: str) -> None:
        path = get(f"{server.url}/good/{NAME}")
        path.with_name(f"{NAME}.verified").write_text(text)
        assert get(f"{server.url}/404/{NAME}") == path

    def test_pin_on_first_sight(self, server: FaultServer) -> None:
        path = get(f"{server.url}/good/{NAME}", full=False)
        stamp = path.with_name(f"{NAME}.verified")
        facts = json.loads(stamp.read_text())
        assert facts["sha256"] == DIGEST
        # Forging 32 bits of SHA-256 takes minutes, so the forgery is told by a stamp that saw another file.
        forged = DIGEST[:8] + "0" * 56
        stamp.write_text(json.dumps({**facts, "sha256": forged, "size": 1}))
        with pytest.raises(PinError, match=rf"{DIGEST}.*{forged}"):
            get(f"{server.url}/good/{NAME}", full=False)
        path.unlink()
        with pytest.raises(SourcesFailedError, match="was pinned"):
            get(f"{server.url}/good/{NAME}", full=False)
        assert not path.exists()
        stamp.unlink()
        assert get(f"{server.url}/good/{NAME}", full=False) == path


class TestLicence:
    def test_said_once_when_first_fetched(self, server: FaultServer) -> None:
        class Entry:
            files = (wanted(f"{server.url}/good/{NAME}"),)
            notice = "not for sale"

        with pytest.warns(hub.LicenseWarning, match="not for sale"):
            hub.fetch(Entry(), progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hub.fetch(Entry(), progress=False)
