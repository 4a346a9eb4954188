"""Requests that two parsers could read differently, and their neighbours that are fine.

    from http_cases import CASES, PROBE
    for case in CASES: case.name, case.bytes, case.expected

`expected` is the status of a refusal, after which the connection closes; or the list of requests that the bytes
are, each (method, path, query, body); or None where they are no whole request. PROBE is sent behind each: what
a refusal leaves must not be answered, and what is accepted must end where it says. The classes follow RFC 9112's
section on smuggling (11.2) and what llhttp, h2spec and the published attacks look at.
"""
import collections

Case = collections.namedtuple("Case", "group name bytes expected closes")
PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n"
CASES = []
group = ""


def case(name, data, expected, closes=False):
    CASES.append(Case(group, name, data if isinstance(data, bytes) else data.encode("latin-1"), expected, closes))


GET = "GET / HTTP/1.1\r\nHost: a\r\n"
POST = "POST / HTTP/1.1\r\nHost: a\r\n"
HIDDEN = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
EMPTY = [("GET", "/", "", "")]
HELLO = [("POST", "/", "", "hello")]
CHUNKED = POST + "Transfer-Encoding: chunked\r\n\r\n"

group = "Both lengths"
case("CL.TE", POST + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400)
case("TE.CL", POST + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n", 400)
case("CL.TE with a request in the body",
     POST + f"Content-Length: {len(HIDDEN) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400)
case("TE.CL, CL 0", POST + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("CL and TE of HTTP/1.0",
     "POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400)
case("TE of HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)

group = "Content-Length"
case("a body", POST + "Content-Length: 5\r\n\r\nhello", HELLO)
case("CL twice, different", POST + "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello", 400)
case("CL twice, the same", POST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400)
case("CL twice, in other letters", POST + "Content-Length: 0\r\ncontent-LENGTH: 5\r\n\r\nhello", 400)
for text in ["+5", "-5", "5, 5", "5,6", "5 5", "0x5", "05", "5.0", "5e0", "5a", "a5", "", "5;", "\"5\"",
             "\xb25", "\x0b5", "5\x00", "18446744073709551621", "4294967301000000000000000000"]:
    case(f"CL {text!a}", POST + f"Content-Length: {text}\r\n\r\nhello", 400)
case("CL with white space around", POST + "Content-Length: \t 5 \t\r\n\r\nhello", HELLO)
case("CL past the limit", POST + "Content-Length: 9223372036854775807\r\n\r\nhello", 413)
case("CL with white space before the colon", POST + "Content-Length : 5\r\n\r\nhello", 400)
case("CL with a tab before the colon", POST + "Content-Length\t: 5\r\n\r\nhello", 400)
case("CL folded", POST + "Content-Length:\r\n 5\r\n\r\nhello", 400)
case("CL behind a bare LF", POST + "X: y\nContent-Length: 5\r\n\r\nhello", 400)
case("CL behind a bare CR", POST + "X: y\rContent-Length: 5\r\n\r\nhello", 400)
case("CL behind NUL", POST + "X: y\x00\r\nContent-Length: 5\r\n\r\nhello", 400)
case("CL_ is another name", POST + "Content_Length: 5\r\n\r\n", [("POST", "/", "", "")])
case("CL with a space before", POST + " Content-Length: 5\r\n\r\nhello", 400)
case("GET with a body", GET + f"Content-Length: {len(HIDDEN)}\r\n\r\n" + HIDDEN, [("GET", "/", "", HIDDEN)])
case("CL, body cut off", POST + "Content-Length: 5000\r\n\r\nhello", None)

group = "Transfer-Encoding"
case("chunked", CHUNKED + "5\r\nhello\r\n0\r\n\r\n", HELLO)
case("Chunked, in other letters", POST + "transfer-ENCODING: cHuNkEd\r\n\r\n5\r\nhello\r\n0\r\n\r\n", HELLO)
for text in ["xchunked", "chunkedx", "chunked, identity", "identity", "identity, chunked, identity", "chunked, chunked",
             "gzip", "", "\"chunked\"", "'chunked'", "chunked;q=1", "\x0bchunked", "chunked\x00", "chunked,",
             "chunked\x0c", "\xa0chunked"]:
    case(f"TE {text!a}", POST + f"Transfer-Encoding: {text}\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("TE gzip, chunked", POST + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 501)
case("TE twice", POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("TE twice, different",
     POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("TE with white space before the colon", POST + "Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("TE folded", POST + "Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("TE behind a bare LF", POST + "X: y\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400)
case("TE behind CL and a bare CR", POST + "Content-Length: 5\rTransfer-Encoding: chunked\r\n\r\nhello", 400)

group = "Chunks"
case("chunk sizes in both letters, leading zeros", CHUNKED + "00a\r\n0123456789\r\nB\r\nhello world\r\n000\r\n\r\n",
     [("POST", "/", "", "0123456789hello world")])
case("chunk extensions", CHUNKED + "5;a=b;c=\"d;e\"\r\nhello\r\n0;x\r\n\r\n", HELLO)
case("trailers", CHUNKED + "5\r\nhello\r\n0\r\nX: y\r\nContent-Length: 7\r\n\r\n", HELLO)
for text in ["+5", "-5", "0x5", " 5", "5 ", "5\t", "", "g", "5,", "5 ;x", "5\x00", "5\x0b", "00000000000000005"]:
    case(f"chunk size {text!a}", CHUNKED + text + "\r\nhello\r\n0\r\n\r\n", 400)
case("chunk size overflows 64 bits", CHUNKED + "10000000000000005\r\nhello\r\n0\r\n\r\n", 413)
case("chunk size overflows 32 bits", CHUNKED + "100000005\r\nhello\r\n0\r\n\r\n", 413)
case("chunk size with bare LF", CHUNKED + "5\nhello\r\n0\r\n\r\n", 400)
case("chunk size with bare CR", CHUNKED + "5\rhello\r\n0\r\n\r\n", 400)
case("chunk with bare LF behind", CHUNKED + "5\r\nhello\n0\r\n\r\n", 400)
case("chunk with two LFs behind", CHUNKED + "5\r\nhello\n\n0\r\n\r\n", 400)
case("chunk with LF CR behind", CHUNKED + "5\r\nhello\n\r0\r\n\r\n", 400)
case("chunk longer than said", CHUNKED + "5\r\nhello!\r\n0\r\n\r\n", 400)
case("chunk without CR LF behind", CHUNKED + "5\r\nhello0\r\n\r\n", 400)
case("extension with bare LF", CHUNKED + "5;a\nhello\r\n0\r\n\r\n", 400)
case("extension with bare CR", CHUNKED + "5;a\rb\r\nhello\r\n0\r\n\r\n", 400)
case("extension without end", CHUNKED + "5;" + "a" * 5000 + "\r\nhello\r\n0\r\n\r\n", 400)
case("last chunk with bare LF", CHUNKED + "5\r\nhello\r\n0\n\r\n", 400)
case("end with bare LF", CHUNKED + "5\r\nhello\r\n0\r\n\n", 400)
case("final CR LF missing", CHUNKED + "5\r\nhello\r\n0\r\n", 400)  # the probe is no trailer
case("trailer without colon", CHUNKED + "5\r\nhello\r\n0\r\nX\r\n\r\n", 400)
case("trailer folded", CHUNKED + "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", 400)
case("trailer with bare LF", CHUNKED + "5\r\nhello\r\n0\r\nX: y\nZ: 1\r\n\r\n", 400)
case("chunk cut off", CHUNKED + "5000\r\nhello", None)

group = "Header lines"
case("header line folded", GET + "X: y\r\n z\r\n\r\n", 400)
case("header line folded by a tab", GET + "X: y\r\n\tz\r\n\r\n", 400)
case("first header line with a space before", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400)
case("header line of white space", GET + " \r\n\r\n", 400)
case("header line without colon", GET + "X\r\n\r\n", 400)
case("header without name", GET + ": x\r\n\r\n", 400)
case("header name with a space", GET + "X Y: z\r\n\r\n", 400)
case("header name with a parenthesis", GET + "X(Y): z\r\n\r\n", 400)
case("header name with NUL", GET + "X\x00: z\r\n\r\n", 400)
case("header name with a letter past ASCII", GET + "\xe4: z\r\n\r\n", 400)
case("header value with NUL", GET + "X: y\x00z\r\n\r\n", 400)
case("header value with ESC", GET + "X: y\x1bz\r\n\r\n", 400)
case("header value with DEL", GET + "X: y\x7fz\r\n\r\n", 400)
case("header value with bare CR", GET + "X: y\rz\r\n\r\n", 400)
case("header value with CR before CR LF", GET + "X: y\r\r\n\r\n", 400)
case("header line with bare LF", GET + "X: y\n\r\n", 400)
case("all lines with bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400)
case("header ends with bare LF", GET + "\n", 400)
case("header ends with CR CR LF", GET + "\r\r\n", 400)
case("header value past ASCII", GET + "X: \xe4\xff\r\n\r\n", EMPTY)
case("header value empty", GET + "X:\r\n\r\n", EMPTY)

group = "Request lines and targets"
case("empty line before", "\r\n" + GET + "\r\n", EMPTY)
case("two empty lines before", "\r\n\r\n" + GET + "\r\n", 400)
case("bare LF before", "\n" + GET + "\r\n", 400)
case("garbage before", "garbage\r\n" + GET + "\r\n", 400)
case("space before", " " + GET + "\r\n", 400)
case("NUL before", "\x00" + GET + "\r\n", 400)
case("byte order mark before", "\xef\xbb\xbf" + GET + "\r\n", 400)
case("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("two spaces before the version", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("tab for space", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400)
case("request line with bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400)
case("request line with bare CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400)
case("HTTP/0.9", "GET /\r\n\r\n", 400)
case("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", EMPTY, closes=True)
case("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505)
case("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505)
case("HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)
case("HTTP/1.1x", "GET / HTTP/1.1x\r\nHost: a\r\n\r\n", 400)
case("HTTP/01.1", "GET / HTTP/01.1\r\nHost: a\r\n\r\n", 400)
case("HTTP/1", "GET / HTTP/1\r\nHost: a\r\n\r\n", 400)
case("http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", 400)
case("HTTPS/1.1", "GET / HTTPS/1.1\r\nHost: a\r\n\r\n", 400)
case("method with a colon", "GET: / HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("method too long", "A" * 33 + " / HTTP/1.1\r\nHost: a\r\n\r\n", 501)
case("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501)
case("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [("OPTIONS", "*", "", "")])
case("GET *", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path without slash", "GET hidden HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path with NUL", "GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path with %00", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path with %0d%0a", "GET /a%0d%0ab HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path with a broken %", "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path past ASCII", "GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path that is no UTF-8", "GET /%e4 HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path with ..", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("path with encoded ..", "GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("encoded path and query", "GET /a%20%C3%A4?b=%20&c HTTP/1.1\r\nHost: a\r\n\r\n", [("GET", "/a ä", "b=%20&c", "")])

group = "Hosts"
case("no Host", "GET / HTTP/1.1\r\n\r\n", 400)
case("Host twice", GET + "Host: a\r\n\r\n", 400)
case("Host twice, different", GET + "Host: b\r\n\r\n", 400)
case("Host empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400)
case("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400)
case("Host with a user", "GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", 400)
case("Host is a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400)
case("Host with white space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400)
case("Host with a bad port", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400)
case("absolute form", "GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", [("GET", "/x", "y", "")])
case("absolute form, other host", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 400)
case("absolute form with a user", "GET http://a@b/x HTTP/1.1\r\nHost: b\r\n\r\n", 400)
case("absolute form, other scheme", "GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 400)

group = "Others"
case("Expect of something else", GET + "Expect: x\r\n\r\n", 417)
case("a TLS hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(40), 400)
case("three pipelined", GET + "\r\n" + POST + "Content-Length: 5\r\n\r\nhello" + CHUNKED + "5\r\nhello\r\n0\r\n\r\n",
     EMPTY + HELLO + HELLO)
case("POST without length", POST + "\r\n", [("POST", "/", "", "")])
