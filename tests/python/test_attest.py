#!/usr/bin/env python3
"""Evidence of a server that runs, asked for as its clients do and judged by `bulla verify`: SIMULATED evidence, and a TPM's
(swtpm), where that is installed."""
import base64
import concurrent.futures
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from checks import Checks
from serving import PROGRAM, Server, can_serve
from small_source import make_model
from tpm_simulator import booted, missing_program

FULL = os.environ.get("BULLA_TEST_COUNTS") == "full"
ASKERS = 1000
CONNECTIONS = 100


def judge(folder, document, policy, **known):
    """(exit status, {check: state}) of `bulla verify`, of a document or of a certificate in PEM."""
    paths = [os.path.join(folder, name) for name in ("evidence.json", "accepted.json")]
    for path, value in zip(paths, (document, policy)):
        with open(path, "w", encoding="utf-8") as file:
            file.write(value if isinstance(value, str) else json.dumps(value))
    options = [text for name, value in known.items() for text in ("--" + name.replace("_", "-"), value)]
    done = subprocess.run([PROGRAM, "verify", paths[0], "--policy", paths[1], "--json", *options], capture_output=True,
                          check=False)
    verdict = json.loads(done.stdout) if done.stdout.strip() else {"checks": []}
    return done.returncode, {check["name"]: check["state"] for check in verdict["checks"]}


def failed(verdict):
    status, states = verdict
    return status, sorted(name for name, state in states.items() if state == "fail")


def tls_key(certificate):
    """SHA-256 of the public key of a certificate."""
    pem = subprocess.run(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"], capture_output=True, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=pem, capture_output=True, check=True).stdout
    return hashlib.sha256(der).hexdigest()


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def evidence(server, nonce):
    status, document = server.json("GET", f"/v1/evidence?nonce={nonce}")
    if status != 200:
        raise RuntimeError(f"no evidence: {document}")
    return document


def check_binding(checks, server, folder, policy, what):
    """A fresh document is what a client expects, and nothing else is."""
    nonce, other = os.urandom(32).hex(), os.urandom(32).hex()
    document, key = evidence(server, nonce), tls_key(server.certificate)
    root = server.json("GET", "/v1/models")[1]["data"][0]["root"]
    known = {"nonce": nonce, "tls_key": key, "model": root, "receipt_key": document["binding"]["receipt_key"]}
    checks.equal(failed(judge(folder, document, policy, **known)), (0, []), f"{what}: accepted")
    for name in ("nonce", "tls_key", "model", "receipt_key"):
        found = failed(judge(folder, document, policy, **{**known, name: other}))
        checks.equal(found, (1, ["binding." + name]), f"{what}: another {name}")
    found = failed(judge(folder, {**document, "binding": {**document["binding"], "nonce": other}}, policy,
                         **{**known, "nonce": other}))
    checks.equal(found, (1, ["binding.report_data"]), f"{what}: another binding")
    found = failed(judge(folder, document, {**policy, "models": [root]}, **known))
    checks.equal(found, (0, []), f"{what}: a policy that names the model")
    found = failed(judge(folder, document, {**policy, "models": [other]}, **known))
    checks.equal(found[0], 1, f"{what}: a policy that names another model")
    return document


def check_standing(checks, server, what):
    status, _, text = server.request("GET", "/v1/evidence")
    document = json.loads(text)
    checks.equal((status, text), (200, canonical(document)), f"{what}: the standing evidence is canonical")
    name = hashlib.sha256(text).hexdigest()
    checks.equal(server.request("GET", "/v1/evidence/" + name)[::2], (200, text), f"{what}: it is found by its hash")
    for path, status, code in (("/v1/evidence/" + "0" * 64, 404, "evidence_not_found"), ("/v1/evidence/ab", 404,
                               "evidence_not_found"), ("/v1/evidence?nonce=ab", 400, "invalid_nonce"),
                               ("/v1/evidence?other=1", 400, "invalid_nonce")):
        found, answer = server.json("GET", path)
        checks.equal((found, answer["error"]["code"]), (status, code), f"{what}: {path}")
    return document


def check_askers(checks, server, folder, policy, what):
    """Many ask at once, each over a connection of its own, and each is answered for its own nonce; some hang up while they wait."""
    documents = {}

    def ask(number):
        nonce = hashlib.sha256(f"{what} {number}".encode()).hexdigest()
        connection = server.connect()
        connection.request("GET", f"/v1/evidence?nonce={nonce}")
        if number % 50 != 49:
            answer = connection.getresponse()
            documents[nonce] = (answer.status, json.loads(answer.read()))
        connection.close()

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(ask, range(ASKERS)))
    print(f"{what}: {ASKERS} connections, each with evidence for its nonce, in {time.monotonic() - started:.1f} s")
    checks.equal({status for status, _ in documents.values()}, {200}, f"{what}: all who ask are answered")
    reports = {document["binding"]["nonce"] for _, document in documents.values()}
    checks.true(len(reports) < len(documents), f"{what}: {len(documents)} askers share {len(reports)} quotes")
    shared = [(nonce, document) for nonce, (_, document) in documents.items() if "nonce_path" in document]
    checks.true(shared, f"{what}: some nonces were combined")
    for nonce, document in shared[:: max(1, len(shared) // (50 if FULL else 5))]:
        checks.equal(failed(judge(folder, document, policy, nonce=nonce)), (0, []), f"{what}: one of many")
        checks.equal(failed(judge(folder, document, policy, nonce=os.urandom(32).hex())), (1, ["binding.nonce"]),
                     f"{what}: not one of them")


def check_simulated(checks, model, folder):
    policy = {"type": "sim", "allow_simulated": True}
    published = os.path.join(folder, "policy.json")
    with open(published, "w", encoding="utf-8") as file:
        json.dump({"resources": {"memory": "1MB"}, "attestation": policy}, file)
    with Server(model, arguments=["--attester", "sim", "--policy", published]) as server:
        document = check_binding(checks, server, folder, policy, "sim")
        status, _, text = server.request("GET", "/v1/policy")
        checks.equal((status, hashlib.sha256(text).hexdigest()), (200, document["binding"]["policy"]), "the policy is bound")
        check_standing(checks, server, "sim")
        status, states = judge(folder, document, {"type": "sim"}, nonce=document["binding"]["nonce"])
        checks.equal((status, states.get("policy.allow_simulated")), (1, "fail"), "sim: no policy that does not say so accepts it")
        check_askers(checks, server, folder, policy, "sim")
        lines = [line for line in server.log() if line["event"].startswith("evidence") or line["event"] == "ready"]
        checks.true(len(lines) >= 2 and all(line["attester"] == "SIMULATED" for line in lines), f"the log says it: {lines}")


def served_certificate(server):
    host, port = server.address
    return ssl.get_server_certificate((host, port))


def make_server_certificate(folder):
    """leaf.pem and leaf.key, signed by another key."""
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    commands = [[*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority"],
                [*new, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost"],
                ["openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7",
                 "-out", "leaf.pem"]]
    for command in commands:
        subprocess.run(command, cwd=folder, capture_output=True, check=True)


def check_ra_tls(checks, model, folder):
    """The certificate that a client gets has the evidence; what the server keeps stays as it is."""
    policy = {"type": "sim", "allow_simulated": True}
    with Server(model, arguments=["--attester", "sim", "--ra-tls"]) as server:
        pem = served_certificate(server)
        kept = server.read(server.certificate)
        checks.true(pem.strip() != kept.strip(), "the kept certificate has no evidence")
        path = os.path.join(folder, "served.pem")
        with open(path, "w", encoding="utf-8") as file:
            file.write(pem)
        checks.equal(tls_key(path), tls_key(server.certificate), "the key is that of the kept certificate")
        context = ssl.create_default_context(cafile=path)
        with socket.create_connection(server.address) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
            checks.equal(tls.version(), "TLSv1.3", "the certificate is good for its own clients")
            tls.sendall(b"GET /v1/evidence HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: tls.recv(65536), b""))
        document = json.loads(answer.partition(b"\r\n\r\n")[2])
        known = {"tls_key": tls_key(path), "nonce": document["binding"]["nonce"]}
        checks.equal(failed(judge(folder, pem, policy, **known)), (0, []), "the certificate verifies")
        checks.equal(failed(judge(folder, pem, {"type": "sim"}, **known)), (1, ["policy.allow_simulated"]),
                     "a policy that does not allow SIMULATED evidence")
        checks.equal(failed(judge(folder, pem, policy, tls_key="00" * 32)), (1, ["ra_tls.tls_key"]), "another key")
        status, states = judge(folder, kept, policy)
        checks.equal((status, states.get("ra_tls.evidence")), (1, "fail"), "a certificate without evidence")
        names = [line["attester"] for line in server.log() if line["event"] == "certificate_attested"]
        checks.equal(names, ["SIMULATED"], "the log says it")
    make_server_certificate(folder)
    given = [f"--tls-{name}={os.path.join(folder, 'leaf.' + ending)}" for name, ending in (("certificate", "pem"), ("key", "key"))]
    for options, sentence in ((["--attester", "none", "--ra-tls"], "no attester"),
                              (["--ra-tls", "--attester", "sim", "--http"], "no TLS"),
                              (["--ra-tls", "--attester", "sim", *given], "of an authority")):
        try:
            with Server(model, arguments=options):
                checks.true(False, f"{options}: a server starts")
        except RuntimeError as error:
            checks.contains(str(error), sentence, f"{options}: refused")


NVIDIA = """
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)0; return index > 1; }
int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) { memory->total = 80000000000; return device != 0; }
"""


def check_gpu_memory(checks, folder):
    """Of two GPUs of 80 GB, which a library in the place of NVIDIA's tells of."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return
    library = os.path.join(folder, "nvidia")
    os.mkdir(library)
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", os.path.join(library, "libnvidia-ml.so.1")],
                   input=NVIDIA.encode(), check=True)
    path = os.path.join(folder, "gpus.json")
    for wanted, status in (("160GB", 0), ("161GB", 1)):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"resources": {"gpu_memory": wanted}}, file)
        done = subprocess.run([PROGRAM, "doctor", "--policy", path], capture_output=True, check=False, text=True,
                              env=dict(os.environ, LD_LIBRARY_PATH=library))
        checks.equal(done.returncode, status, f"GPUs of 160 GB, and {wanted} wanted: {done.stderr}")


def check_none(checks, model, folder):
    with Server(model, arguments=["--attester", "none"]) as server:
        for path in ("/v1/evidence", "/v1/evidence?nonce=" + "ab" * 32, "/v1/evidence/" + "ab" * 32):
            status, answer = server.json("GET", path)
            checks.equal((status, answer["error"]["code"]), (404, "no_evidence"), f"none: {path}")
        checks.equal(server.json("GET", "/v1/policy")[1]["error"]["code"], "no_policy", "no policy")
    for options, sentence in ((["--attester", "magic"], 'no attester "magic"'),
                              (["--attester", "sim", "--collateral", "/nowhere"], "/nowhere"),
                              (["--policy", "/nowhere"], "/nowhere")):
        try:
            with Server(model, arguments=options):
                checks.true(False, f"{options}: a server starts")
        except RuntimeError as error:
            checks.contains(str(error), sentence, f"{options}: refused")
    greedy = os.path.join(folder, "greedy.json")
    with open(greedy, "w", encoding="utf-8") as file:
        json.dump({"resources": {"memory": "900TB"}}, file)
    try:
        with Server(model, arguments=["--policy", greedy]):
            checks.true(False, "a machine that is too small")
    except RuntimeError as error:
        checks.contains(str(error), "the policy demands 900000000000000 bytes of memory", "a machine that is too small")
    check_gpu_memory(checks, folder)
    done = subprocess.run([PROGRAM, "doctor", "--policy", greedy], capture_output=True, check=False, text=True)
    checks.true(done.returncode == 1 and "attesters" in done.stdout and "900000000000000" in done.stderr,
                f"bulla doctor says it: {done}")


def check_models(checks, model, other, folder):
    """The standing evidence follows the models."""
    store = os.path.join(folder, "keys")
    key = subprocess.run([PROGRAM, "keys", "add", "--store", store, "--admin"], capture_output=True, check=True,
                         text=True).stdout.strip()
    bearer = {"Authorization": "Bearer " + key}
    with Server(model, arguments=["--attester", "sim", "--keys", store]) as server:
        first = check_standing(checks, server, "before a model is loaded")
        checks.equal(server.json("POST", "/v1/admin/models", {"name": "other", "path": other}, bearer)[0], 200, "loaded")
        server.wait(lambda: server.json("GET", "/v1/evidence")[1] != first, what="evidence of both models")
        second = check_standing(checks, server, "after it")
        roots = {entry["root"] for entry in server.json("GET", "/v1/models", None, bearer)[1]["data"]}
        checks.equal(set(second["binding"]["models"]), roots, "both models")
        checks.equal(len(roots), 2, "they are two")
        name = hashlib.sha256(canonical(first)).hexdigest()
        checks.equal(server.json("GET", "/v1/evidence/" + name), (200, first), "the evidence before is kept")
        checks.equal(server.json("DELETE", "/v1/admin/models/other", None, bearer)[0], 200, "unloaded")
        server.wait(lambda: server.json("GET", "/v1/evidence")[1]["binding"]["models"] == first["binding"]["models"],
                    what="evidence of the first model alone")


def check_tpm(checks, model, folder):
    """A boot that was measured, quoted with a key that the server has its TPM make."""
    place = os.path.join(folder, "tpm")
    with booted(place) as (tpm, arguments):
        with Server(model, arguments=arguments) as server:
            document = evidence(server, os.urandom(32).hex())
            key = tpm_key(document["ak"])
            policy = {"type": "tpm", "tpm_key": key, "secure_boot": True, "pcr": {"4": document["pcrs"]["sha256"]["4"]},
                      "boot_loader": [hashlib.sha256(program).hexdigest() for program in (b"shim", b"kernel")]}
            check_binding(checks, server, place, policy, "tpm")
            check_standing(checks, server, "tpm")
            check_askers(checks, server, place, policy, "tpm")
            unnamed = {name: value for name, value in policy.items() if name != "tpm_key"}
            checks.equal(failed(judge(place, document, unnamed)), (1, ["policy.tpm_key"]), "tpm: nobody vouches for the key")
            checks.equal([line["attester"] for line in server.log() if line["event"] == "ready"], ["tpm"], "the log names it")
        with Server(model, arguments=arguments + ["--tpm-pcrs", "7"]) as server:
            document = evidence(server, os.urandom(32).hex())
            checks.equal(list(document["pcrs"]["sha256"]), ["7"], "tpm: PCRs that are asked for")
            checks.equal(tpm_key(document["ak"]), key, "tpm: the next start has the same key")
        check_tpm_key(checks, model, tpm, place)


def tpm_key(pem):
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=pem.encode(), capture_output=True,
                         check=True).stdout
    return hashlib.sha256(der).hexdigest()


def check_tpm_key(checks, model, tpm, folder):
    """A persistent RSA key, and its certificate in the TPM's memory."""
    tpm.key("rsa2048:rsassa-sha256:null")
    tpm.run("tpm2_evictcontrol", "-C", "o", "-c", "key", "0x81010001")
    make_certificate(tpm)
    size = len(tpm.read("certificate.der"))
    tpm.run("tpm2_nvdefine", "0x01c10000", "-C", "o", "-s", str(size + 100), "-a", "ownerread|ownerwrite|authread")
    tpm.run("tpm2_nvwrite", "0x01c10000", "-C", "o", "-i", "certificate.der")
    tpm.run("tpm2_flushcontext", "-t")
    tpm.run("tpm2_nvread", "0x01c10000", "-C", "o", "-s", "4")
    arguments = ["--attester", "tpm", "--tpm-tcti", tpm.tcti, "--tpm-key", "0x81010001"]
    with Server(model, arguments=arguments) as server:
        document = evidence(server, os.urandom(32).hex())
        checks.equal(tpm_key(document["ak"]), hashlib.sha256(tpm.read("der")).hexdigest(), "tpm: the persistent key")
        policy = {"type": "tpm", "tpm_key": tpm_key(document["ak"]), "tpm_name": tpm.read("name").hex()}
        check_binding(checks, server, folder, policy, "tpm, RSA")
    with Server(model, arguments=arguments + ["--tpm-certificate", "0x01c10000"]) as server:
        document = evidence(server, os.urandom(32).hex())
        checks.equal(document["certificates"], [base64.b64encode(tpm.read("certificate.der")).decode()], "tpm: the certificate")
        checks.true("ak" not in document, "tpm: the certificate has the key")
        names = failed(judge(folder, document, policy))
        checks.true(names[0] == 1 and "tpm.chain" in names[1], f"tpm: a certificate of nobody who is known: {names}")
    for options, sentence in ((["--tpm-key", "0x81010077"], "attestation key of --tpm-key"), (["--tpm-pcrs", "0,24"], "0,24"),
                              (["--tpm-certificate", "0x01c10077"], "--tpm-certificate"), (["--tpm-key", "mine"], '"mine"')):
        try:
            with Server(model, arguments=["--attester", "tpm", "--tpm-tcti", tpm.tcti] + options):
                checks.true(False, f"{options}: a server starts")
        except RuntimeError as error:
            checks.contains(str(error), sentence, f"{options}: refused")


def make_certificate(tpm):
    """Of the TPM's key, by an authority that nobody knows: certificate.der."""
    tpm.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "authority.key",
            "-out", "authority.pem", "-subj", "/CN=nobody")
    tpm.run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "other.key",
            "-out", "request.pem", "-subj", "/CN=attestation key")
    tpm.run("openssl", "x509", "-req", "-in", "request.pem", "-CA", "authority.pem", "-CAkey", "authority.key",
            "-force_pubkey", "pem", "-set_serial", "7", "-outform", "der", "-out", "certificate.der")


def main():
    checks = Checks()
    if not can_serve():
        checks.skip("this build has no bulla serve")
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, "tiny")
        check_simulated(checks, model, folder)
        check_ra_tls(checks, model, folder)
        check_none(checks, model, folder)
        if missing_program():
            print(f"without a TPM: {missing_program()} is not installed")
        else:
            check_tpm(checks, model, folder)
        check_models(checks, model, make_model(folder, "other", context=256), folder)
    checks.finish()


if __name__ == "__main__":
    main()
