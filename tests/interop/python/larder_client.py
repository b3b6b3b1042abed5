"""A client of larder.v1, as any tool may be one: health, "may I run this?", a watch that loses nothing, content.

    larder_client.py SOCKET health
    larder_client.py SOCKET query REFERENCE
    larder_client.py SOCKET watch CURSOR_FILE COUNT
    larder_client.py SOCKET read REPOSITORY DIGEST

SOCKET is a path, or HOST:PORT with --cert, --key and --ca. Exit codes: 0 accepted or done, 1 an error, 3 not accepted,
4 pending.
"""

import argparse
import hashlib
import os
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from larder.v1 import common_pb2, content_pb2, content_pb2_grpc, verification_pb2, verification_pb2_grpc

ACCEPTED = (common_pb2.STATE_VERIFIED, common_pb2.STATE_ALLOWED)


def channel(arguments):
    """Connects: the socket needs no secrets, for the kernel says who calls; TCP is mutual TLS and nothing else."""
    if not arguments.cert:
        # gRPC's C core would send the path as the authority, percent-encoded, which is none (RFC 3986, section 3.2).
        authority = [("grpc.default_authority", "localhost")]
        return grpc.insecure_channel(f"unix:{os.path.abspath(arguments.where)}", authority)
    cert, key, ca = (open(path, "rb").read() for path in (arguments.cert, arguments.key, arguments.ca))
    return grpc.secure_channel(arguments.where, grpc.ssl_channel_credentials(ca, key, cert))


def reason(error):
    """Returns the stable reason of an error, and the hint that may stand beside it."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == "larder":
            return info.reason, info.metadata.get("hint", "")
    return error.code().name, ""


def state(value):
    return common_pb2.State.Name(value).removeprefix("STATE_").lower()


def health(connection):
    answer = health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest(service=""), timeout=10)
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def query(connection, reference):
    """May I run this, and why (not)? Accepted is what is verified or allowed, and nothing else."""
    stub = verification_pb2_grpc.VerificationStub(connection)
    result = stub.Query(verification_pb2.QueryRequest(references=[reference]), timeout=10).results[0]
    if result.WhichOneof("result") != "verdict":
        print(f"{reference}: {result.error.message} ({result.error.reason})", file=sys.stderr)
        return 4 if result.error.reason == "rebuilding" else 1
    verdict = result.verdict
    why = ", ".join(f"{reason.code} {reason.detail}".strip() for reason in verdict.reasons)
    # What is run is the digest that the answer names: a tag may move in between.
    print(f"{verdict.repository}@{verdict.digest} {state(verdict.state)} ({why})")
    if verdict.state in ACCEPTED:
        return 0
    return 4 if verdict.state == common_pb2.STATE_PENDING else 3


def watch(connection, cursor_file, count):
    """Follows changes, each exactly once: the seq of the last one is kept, and the next run goes on after it."""
    request = verification_pb2.WatchRequest()
    if os.path.exists(cursor_file):
        request.after = int(open(cursor_file).read())
    for event in verification_pb2_grpc.VerificationStub(connection).Watch(request):
        kind = verification_pb2.WatchEvent.Type
        if event.type in (kind.TYPE_STATE, kind.TYPE_NOTICE):
            continue  # the snapshot has no seq of its own; a notice is told to whoever watches, and not kept
        if event.type == kind.TYPE_CHANGE:
            was = state(getattr(event, "from"))
            print(f"{event.repository} {was} -> {state(event.to)}", flush=True)
        with open(cursor_file + ".new", "w") as file:  # handled first, noted second
            file.write(str(event.seq))
        os.replace(cursor_file + ".new", cursor_file)
        if event.type == kind.TYPE_COMPLETE:
            print("complete", flush=True)
        if event.type == kind.TYPE_CHANGE:
            count -= 1
            if count == 0:
                return 0
    return 1


def read(connection, repository, digest):
    """Reads a manifest or blob through the gate, and trusts nobody's word for what it is."""
    request = content_pb2.ReadRequest(repository=repository, digest=digest)
    algorithm, _, expected = digest.partition(":")
    actual = hashlib.new(algorithm)
    for piece in content_pb2_grpc.ContentStub(connection).Read(request):
        actual.update(piece.data)
        sys.stdout.buffer.write(piece.data)
    sys.stdout.buffer.flush()
    return 0 if actual.hexdigest() == expected else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("where")
    for option in ("--cert", "--key", "--ca"):
        parser.add_argument(option)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("health")
    verbs.add_parser("query").add_argument("reference")
    watching = verbs.add_parser("watch")
    watching.add_argument("cursor_file")
    watching.add_argument("count", type=int)
    reading = verbs.add_parser("read")
    reading.add_argument("repository")
    reading.add_argument("digest")
    arguments = parser.parse_args()
    try:
        with channel(arguments) as connection:
            match arguments.verb:
                case "health":
                    return health(connection)
                case "query":
                    return query(connection, arguments.reference)
                case "watch":
                    return watch(connection, arguments.cursor_file, arguments.count)
                case "read":
                    return read(connection, arguments.repository, arguments.digest)
    except grpc.RpcError as error:
        code, hint = reason(error)
        print(f"error: {error.details()} ({code})" + (f"\n  hint: {hint}" if hint else ""), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
