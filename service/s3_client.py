"""boto3's client for one bucket, and what its errors and answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.storage_errors import NoS3Error, local, overloaded

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

    from service.wire import StorageSettings

CONNECT_TIMEOUT = 3.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a byte


def _session(settings: StorageSettings) -> Session:
    """Return a session that, with keys of ours, ignores the user's AWS profile: it may be another service's, or
    gone."""
    import boto3
    import botocore.session

    if settings.access_key is None or settings.secret_key is None:
        return boto3.session.Session()
    unread = {"profile": (None, None, None, None)}  # neither AWS_PROFILE nor AWS_DEFAULT_PROFILE
    return boto3.session.Session(botocore_session=botocore.session.Session(session_vars=unread))


def made_client(settings: StorageSettings) -> S3Client:
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=16,
        retries={"mode": "standard", "total_max_attempts": 2},  # the long patience is ours: see `_call`
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
        # many S3-compatible servers know nothing of the newer checksum headers; the request's own signature covers
        # what is sent, and manifests cover what is stored
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={} if local(settings.endpoint_url) else None,  # none: as the environment says
    )
    return _session(settings).client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        config=config,
    )


def root(error: Exception) -> Exception:
    """Return the server's answer, which boto3's transfer errors carry as their context."""
    from boto3.exceptions import S3TransferFailedError, S3UploadFailedError

    if isinstance(error, S3UploadFailedError | S3TransferFailedError):
        inner = error.__cause__ or error.__context__
        return inner if isinstance(inner, Exception) else error
    return error


def listing(page: ListObjectsV2OutputTypeDef) -> ListObjectsV2OutputTypeDef:
    """Return `page`; raise NoS3Error if it is no bucket's: boto3 reads any page of HTML as an empty bucket."""
    if not {"Name", "IsTruncated", "KeyCount"} & page.keys():
        raise NoS3Error("its list of objects is none")
    return page


def unreachable(error: Exception) -> bool:
    from botocore import exceptions as e

    return isinstance(error, e.HTTPClientError | e.IncompleteReadError | e.ConnectionError)


def passing(error: BaseException) -> bool:
    """Return whether the error may pass in a moment."""
    if not isinstance(error, Exception):
        return False
    cause = root(error)
    return unreachable(cause) or overloaded(cause)
