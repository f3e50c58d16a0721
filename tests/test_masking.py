"""No output of the track command shows what an address keeps for its owner."""

import traceback

import pytest

from chase_fast.track.sources.masking import hide_in, masked, masked_data

SECRET = "s3cr3t"
ADDRESSES = [
    "rtsp://admin:s3cr3t@10.0.0.2:554/cam/realmonitor?channel=1&subtype=0",
    "rtsp://s3cr3t@10.0.0.2/live",
    "rtsp://admin:p@s3cr3t@host/live",
    "rtsp://admin:pa/s3cr3t@host/live",
    "rtsp://admin:12/s3cr3t@host/live",
    "rtsp://admin:p%40s3cr3t@host/live",
    "rtsp://admin%3As3cr3t%40host/live",
    "RTSP://admin:s3cr3t@host/live",
    "rtsp:/admin:s3cr3t@host/live",
    "rtmp://host/live?token=s3cr3t",
    "https://host/a.m3u8?key=s3cr3t",
    "https://host/a.m3u8?%6Bey=s3cr3t",
    "https://host/a.m3u8?x=1&KEY=s3cr3t&y=2",
    "https://host/a.m3u8?X-Amz-Credential=s3cr3t&X-Amz-Signature=s3cr3t&Expires=3",
    "https://host/a.m3u8?hdnts=exp=1~acl=/*~hmac=s3cr3t",
    "https://host/a.m3u8?s3cr3t",
    "https://host/a.m3u8?user=a;pwd=s3cr3t",
    "https://host/a.m3u8#access_token=s3cr3t",
    "https://host/token/s3cr3t/a.m3u8",
    "https://host/a;jsessionid=s3cr3t",
    "https://host/a?Authorization=Basic%20s3cr3t",
    "https://host/api/stream.mp4?src=rtsp://admin:s3cr3t@host/live",
    "https://host/proxy?channel=1&url=http://host/a?key=s3cr3t",
    "https://host/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s3cr3t/a.m3u8",
    "https://host/proxy?url=rtsp%3A%2F%2Fadmin%3As3cr3t%40host",
    "rtsp://host:554/user=admin&password=s3cr3t&channel=1&stream=0.sdp?real_stream",
    "rtsp://host:554/user=admin_password=s3cr3t_channel=1_stream=0.sdp",
    "srt://host:9000?mode=caller&passphrase=s3cr3t",
    "http://host/videostream.cgi?loginuse=admin&loginpas=s3cr3t",
    "http://host/video.cgi?usr=a&pwd=s3cr3t&resolution=32",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_secrets_are_masked_alone_and_within_sentences(address):
    for text in (address, f"error: {address}: timed out", f"Opening '{address}' for reading", f"({address})"):
        assert SECRET not in masked(text), masked(text)
    assert SECRET not in masked(address, address=True)
    assert masked(masked(address)) == masked(address)


def test_addresses_without_scheme_and_loose_words():
    for text in (
        "admin:s3cr3t@192.168.1.9/stream: no such file",
        "Authorization: Basic s3cr3t",
        "authorization=Bearer s3cr3t",
        "password=s3cr3t",
        "access_token: s3cr3t",
    ):
        assert SECRET not in masked(text), masked(text)
    assert SECRET not in masked("rtsp://admin:it's s3cr3t@host/x", address=True)


PLAIN = [
    "rtsp://camera/stream",
    "rtsp://[::1]:554/stream1",
    "http://10.0.0.2:8080/video?channel=1&subtype=0&resolution=1280x720",
    "https://host/@name/live",
    "udp://@239.0.0.1:1234",
    "C:/data/video.mp4",
    "/data/token=3/video.mp4",
    "runs/a=b/boxes.txt",
    "frames now have 320x200 pixels at 12:30:01",
    "https://host/live.m3u8?real_stream",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text):
    assert masked(text) == text and masked(f"opening {text}, loading") == f"opening {text}, loading"


def test_data_and_exceptions():
    address = ADDRESSES[0]
    assert SECRET not in str(masked_data({"a": [address, {"b": (address, 1)}], "n": 2}))
    assert masked_data({"n": [1, 2.5, None, True]}) == {"n": [1, 2.5, None, True]}
    try:
        try:
            raise OSError(5, f"cannot reach {address}", address)
        except OSError as e:
            raise RuntimeError(f"while opening {address}") from e
    except RuntimeError as e:
        hide_in(e)
        text = "".join(traceback.format_exception(e))
    assert SECRET not in text and "while opening rtsp://***@10.0.0.2" in text
