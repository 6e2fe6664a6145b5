//! A provider of both dialects, in a process of its own: ten thousand connections take more files than one process may have
//! open beside as many clients.
//!
//! A stream whose prompt says `hold` stands still after its first token, until it is let go.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

/// The handle on it. Dropped, it ends.
pub(crate) struct Provider {
    child: Child,
    commands: Option<ChildStdin>,
    pub(crate) address: String,
}

impl Provider {
    pub(crate) fn start() -> Self {
        super::take_files();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["provider::the_process", "--exact", "--ignored", "--nocapture"])
            .env("STEADFAST_SCALE_PROVIDER", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the provider starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| Some(line.unwrap().strip_prefix("provider at ")?.to_owned()));
        let commands = child.stdin.take();
        Self { child, commands, address: address.expect("the provider says where it is") }
    }

    /// Lets all streams go on that stand still.
    pub(crate) fn release(&mut self) {
        self.commands.as_mut().unwrap().write_all(b"release\n").unwrap();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // It ends with its input; should it not, then by force.
        drop(self.commands.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the provider of the other tests, which start it"]
fn the_process() {
    if std::env::var_os("STEADFAST_SCALE_PROVIDER").is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (held, release) = watch::channel(false);
    let listener = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        // Ten thousand come at once.
        socket.listen(4096).unwrap()
    });
    // The harness has written the beginning of a line.
    println!("\nprovider at {}", listener.local_addr().unwrap());
    runtime.spawn(serve(listener, release));
    for line in std::io::stdin().lines() {
        if line.unwrap() == "release" {
            held.send_replace(true);
        }
    }
    // Nobody listens to what the harness would say now.
    std::process::exit(0);
}

async fn serve(listener: TcpListener, release: watch::Receiver<bool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, release.clone()))),
            Err(error) => panic!("the provider has no more connections: {error}"),
        }
    }
}

async fn connection(mut stream: TcpStream, mut release: watch::Receiver<bool>) {
    stream.set_nodelay(true).unwrap();
    let mut read = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut read).await {
        let says = |what: &str| body.contains(what);
        let words = match (head.contains("/v1/messages"), says(r#""stream":true"#)) {
            (true, true) => MESSAGES_STREAM,
            (false, true) => CHAT_STREAM,
            (true, false) => [MESSAGES_WHOLE, ""],
            (false, false) => [CHAT_WHOLE, ""],
        };
        let sent = match words {
            // It repeats what it was sent, as some do.
            _ if !says(r#""messages":["#) => {
                let error =
                    format!(r#"{{"type":"error","error":{{"type":"invalid_request_error","message":{body:?}}}}}"#);
                let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: ";
                stream.write_all(format!("{head}{}\r\n\r\n{error}", error.len()).as_bytes()).await
            }
            [whole, ""] => {
                let length = whole.len();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all((head + whole).as_bytes()).await
            }
            [first, last] => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                let begun = stream.write_all(format!("{head}{:x}\r\n{first}\r\n", first.len()).as_bytes()).await;
                if says("hold") && release.wait_for(|released| *released).await.is_err() {
                    return;
                }
                let ended = stream.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes()).await;
                begun.and(ended)
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Head and body of the next request.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let whole = end + 4 + length.parse::<usize>().unwrap();
            if read.len() >= whole {
                let body: Vec<u8> = read.drain(..whole).skip(end + 4).collect();
                let body = String::from_utf8_lossy(&body).into_owned();
                return Some((head, body));
            }
        }
        // Not for long: thousands of these stand still with what they have.
        read.reserve(1024);
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
        if read.capacity() > 4096 && read.is_empty() {
            read.shrink_to(0);
        }
    }
}

const MESSAGES_STREAM: [&str; 2] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"first\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" and last\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];
const CHAT_STREAM: [&str; 2] = [
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"first\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" and last\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
];
const MESSAGES_WHOLE: &str = "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[{\"type\":\"text\",\"text\":\"first and last\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":3}}";
const CHAT_WHOLE: &str = "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"first and last\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"total_tokens\":12}}";
