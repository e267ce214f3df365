from ipaddress import ip_address

import pytest

from services.net.guard import NotPublic, SystemResolver, is_public, public_addresses


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "93.184.215.14",
        "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_public_addresses_are_public(text: str):
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:0:808:808::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ],
)
def test_everything_else_is_not(text: str):
    assert not is_public(ip_address(text))


def test_one_private_address_spoils_the_host():
    assert [str(a) for a in public_addresses("h", ["8.8.8.8", "8.8.4.4", "8.8.8.8"])] == ["8.8.8.8", "8.8.4.4"]
    for answers in (["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"], [], ["nonsense"]):
        with pytest.raises(NotPublic, match=r"internal\.example"):
            public_addresses("internal.example", answers)


def test_the_message_names_no_address():
    with pytest.raises(NotPublic) as caught:
        public_addresses("internal.example", ["10.1.2.3"])
    assert "10.1.2.3" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.1", "::1"])
async def test_addresses_in_disguise_are_seen_through(host: str):
    resolver = SystemResolver()
    try:
        answers = await resolver(host, 443)
    finally:
        resolver.close()
    assert answers
    with pytest.raises(NotPublic):
        public_addresses(host, answers)


async def test_a_name_that_cannot_be_is_an_os_error():
    resolver = SystemResolver()
    try:
        with pytest.raises(OSError):
            await resolver("a" * 64 + ".example", 443)
    finally:
        resolver.close()
