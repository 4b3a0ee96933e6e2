"""A server of the OpenAI kind on loopback for tests: real sockets, and faults that request and attempt decide."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAULTS = ("busy", "broken server", "cut body")
"""What passes; `broken JSON` is a fault too, which ends a run."""
Body = Mapping[str, Any]


class Vllm:
    """What vLLM adds, from a model's files: `/tokenize` and the log-probabilities of a prompt."""

    def __init__(self, folder: Path, *, adds_bos: bool = False) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.adds_bos = adds_bos
        self.max_model_len = int(self.model.config.max_position_embeddings)

    def tokenize(self, body: Body) -> Body:
        text = body.get("prompt")
        if text is None:
            text = self.tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=body["add_generation_prompt"],
                **body.get("chat_template_kwargs", {}),
            )
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.adds_bos and body.get("add_special_tokens"):
            ids = [self.tokenizer.bos_token_id, *ids]
        return {"count": len(ids), "max_model_len": self.max_model_len, "tokens": ids}

    def detokenize(self, body: Body) -> Body:
        return {"prompt": self.tokenizer.decode(body["tokens"])}

    def weigh(self, body: Body) -> Body:
        import torch

        ids = body["prompt"]
        with torch.inference_mode():
            logprobs = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        steps: list[dict[str, Any] | None] = [None]
        for at, token in enumerate(ids[1:]):
            best = int(logprobs[at].argmax())
            steps.append({str(one): {"logprob": float(logprobs[at, one])} for one in {best, token}})
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
        return {"choices": [{"text": "", "finish_reason": "length", "prompt_logprobs": steps}], "usage": usage}


class Whole(dict[str, Any]):
    """A whole reply, where another dict stands for a choice."""


class Server:
    """Answers by `reply`; `share` of the paid calls go wrong, in one of `faults`."""

    def __init__(
        self,
        reply: Callable[[Body], Any] = lambda body: body["messages"][-1]["content"].upper(),
        *,
        share: float = 0.0,
        faults: tuple[str, ...] = FAULTS,
        retry_after: str = "0",
        delay: float = 0.0,
        key: str = "",
        vllm: Vllm | None = None,
        counts_tokens: bool = True,
        refuses: Callable[[Body], Any] = lambda body: None,
        routes: Mapping[str, Any] | None = None,
        hello: Callable[[Body], Any] = lambda body: "Hello.",
    ) -> None:
        """A server.

        Args:
            reply: the text, the choice, the whole reply (`Whole`), or status, body and perhaps headers, of a conversation.
            share: of paid calls that go wrong.
            faults: in which ways.
            retry_after: what it asks for where it is busy.
            delay: seconds an answer takes.
            key: the only one that is let in.
            vllm: what answers `/tokenize` and weighs prompts.
            counts_tokens: whether it says how many there were.
            refuses: status and body for a conversation that it does not take as it is put; that costs nothing.
            routes: status and body by path, for paths that it answers in a way of its own.
            hello: as `reply`, for the short request of a client that has just been loaded; it is counted in `hellos` alone.
        """
        self.reply, self.share, self.faults, self.retry_after = reply, share, faults, retry_after
        self.delay, self.key, self.vllm, self.counts_tokens = delay, key, vllm, counts_tokens
        self.refuses, self.routes = refuses, routes or {}
        self.hello = hello
        self.hellos: list[Body] = []
        self.refused: list[Body] = []
        """Requests it did not take."""
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.paid: Counter[str] = Counter()
        """Answers that went out whole, by what was asked."""
        self.calls: Counter[str] = Counter()
        """Paid calls that came in, by what was asked."""
        self.seen: list[Body] = []
        self.faulty: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.closed = False
        self.url = ""

    @contextmanager
    def up(self, port: int = 0) -> Iterator[Server]:
        """Serve until the block ends."""
        handler = type("Handler", (_Handler,), {"script": self})
        http = _Quiet(("127.0.0.1", port), handler)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{http.server_port}/v1"
        try:
            yield self
        finally:
            self.closed = True  # its threads live on with the connections that are open
            http.shutdown()
            http.server_close()
            thread.join()

    def fault(self, prompt: str) -> str | None:
        """What goes wrong with this attempt at `prompt`, if anything does."""
        with self.lock:
            self.calls[prompt] += 1
            draw = random.Random(f"{prompt}:{self.calls[prompt]}")
            found = draw.choice(self.faults) if draw.random() < self.share else None
            if found:
                self.faulty[found] += 1
        return found


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of five, a busy machine refuses connections

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests are killed, or give up waiting: no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Server

    def do_GET(self) -> None:
        if not self.routed():
            self.send(200, {"object": "list", "data": [{"id": "m"}]})

    def routed(self) -> bool:
        """Answer a path that has an answer of its own."""
        path = self.path.partition("?")[0]
        with self.script.lock:
            self.script.paths.append(self.path)
            self.script.headers.append(dict(self.headers))
        if path not in self.script.routes:
            return False
        self.send(*self.script.routes[path])
        return True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script = self.script
        path = self.path.partition("?")[0]
        if script.closed:
            self.close_connection = True
        elif self.routed():
            pass
        elif script.key and self.headers.get("Authorization") != f"Bearer {script.key}":
            self.send(401, {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}})
        elif body["model"] != "m":
            self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        elif self.path == "/tokenize" and script.vllm:
            found = script.vllm.tokenize(body)
            self.send(*found if isinstance(found, tuple) else (200, found))
        elif self.path == "/detokenize" and script.vllm:
            self.send(200, script.vllm.detokenize(body))
        elif self.path == "/v1/completions" and script.vllm and "prompt_logprobs" in body:
            self.paid(json.dumps(body["prompt"]), lambda: script.vllm.weigh(body))  # type: ignore[union-attr]
        elif path.endswith("/chat/completions"):
            refusal = script.refuses(body)
            if refusal is not None:
                with script.lock:
                    script.refused.append(body)
                self.send(*refusal)
            elif body["messages"][-1]["content"].endswith("Say hello."):
                with script.lock:
                    script.hellos.append(body)
                found = self.completion(script.hello(body))
                self.send(*found if isinstance(found, tuple) else (200, found))
            else:
                self.paid(json.dumps([body["messages"], body.get("seed")]), lambda: self.chat(body))
        else:
            self.send(404, {"detail": "Not Found"})

    def chat(self, body: Body) -> Body | tuple[int, Body]:
        with self.script.lock:
            self.script.seen.append(body)
        return self.completion(self.script.reply(body))

    def completion(self, reply: Any) -> Any:
        if isinstance(reply, tuple | Whole):
            return reply
        choice = reply if isinstance(reply, dict) else {"finish_reason": "stop", "message": {"content": reply}}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return {"choices": [choice], **({"usage": usage} if self.script.counts_tokens else {})}

    def paid(self, prompt: str, answer: Callable[[], Any]) -> None:
        script = self.script
        with script.lock:
            script.at_once += 1
            script.most_at_once = max(script.most_at_once, script.at_once)
        try:
            time.sleep(script.delay)
            fault = script.fault(prompt)
            if fault == "busy":
                self.send(429, {"error": {"message": "slow down"}}, {"Retry-After": script.retry_after})
            elif fault == "broken server":
                self.send(500, {"error": {"message": "out of memory"}})
            elif fault in ("drips head", "drips body", "endless"):
                self.never_done(fault)
            elif fault in ("cut body", "broken JSON"):
                whole = json.dumps(answer()).encode()
                self.head(200, len(whole) // 2 if fault == "broken JSON" else len(whole))
                self.wfile.write(whole[: len(whole) // 2])
                self.close_connection = True
            else:
                found = answer()
                status, body, *headers = found if isinstance(found, tuple) else (200, found)
                if status == 200:
                    with script.lock:
                        script.paid[prompt] += 1
                self.send(status, body, *headers)
        finally:
            with script.lock:
                script.at_once -= 1

    def never_done(self, fault: str) -> None:
        """A reply that goes on, a byte now and then or as fast as it is read, until the client hangs up."""
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: " if fault == "drips head" else b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.script.closed:
            self.wfile.write(b" " * (1 << 20) if fault == "endless" else b" ")
            time.sleep(0.0 if fault == "endless" else 0.02)

    def send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        whole = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.head(status, len(whole), headers)
        self.wfile.write(whole)

    def head(self, status: int, length: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
