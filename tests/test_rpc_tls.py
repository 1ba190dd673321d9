from pathlib import Path

import grpc
import numpy as np
import pytest
from rpc_pem import CA, CLIENT_CERT, CLIENT_KEY, SERVER_CERT, SERVER_KEY
from rpc_server import predict_request, serving, stub

from jaxrt.errors import UsageError
from jaxrt.serving.rpc import tls
from jaxrt.serving.rpc.service import Options


def written(path: Path, **fields: str | bool) -> Path:
    lines = [
        f"{name}: {str(value).lower()}"
        if isinstance(value, bool)
        else f'{name}: "{value}"'.replace("\n", "\\n")
        for name, value in fields.items()
    ]
    path.write_text("\n".join(lines))
    return path


def asks(port: int, credentials: grpc.ChannelCredentials) -> bool:
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        request = predict_request(x=np.ones(3, np.float32))
        try:
            answer = stub(channel, "Predict", "PredictResponse")(request, timeout=10)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False
    return bool(len(answer.outputs["x"].float_val) == 3)


def test_calls_over_tls(tmp_path: Path) -> None:
    context = tls.read(written(tmp_path / "ssl", server_key=SERVER_KEY, server_cert=SERVER_CERT))
    with serving(options=Options(tls=context)) as running:
        assert asks(running.port, grpc.ssl_channel_credentials(CA.encode()))
        assert not asks(running.port, grpc.ssl_channel_credentials())


def test_clients_show_a_certificate_where_the_file_says_so(tmp_path: Path) -> None:
    path = written(
        tmp_path / "ssl",
        server_key=SERVER_KEY,
        server_cert=SERVER_CERT,
        custom_ca=CA,
        client_verify=True,
    )
    with serving(options=Options(tls=tls.read(path))) as running:
        shown = grpc.ssl_channel_credentials(CA.encode(), CLIENT_KEY.encode(), CLIENT_CERT.encode())
        assert asks(running.port, shown)
        assert not asks(running.port, grpc.ssl_channel_credentials(CA.encode()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server_keys: 'x'", "Error parsing text-format tensorflow.serving.SSLConfig"),
        ("server_key: 'x' server_cert: 'y'", "are not a key and its certificate"),
        ("", "are not a key and its certificate"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "ssl").write_text(text)
    with pytest.raises(UsageError) as error:
        tls.read(tmp_path / "ssl")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read it"):
        tls.read(tmp_path / "nothing")


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    path = written(
        tmp_path / "ssl", server_key=SERVER_KEY, server_cert=SERVER_CERT, custom_ca="nobody"
    )
    with pytest.raises(UsageError, match="custom_ca is no certificate"):
        tls.read(path)
