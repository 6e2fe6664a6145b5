use super::*;

#[tokio::test]
async fn a_caller_who_leaves_is_counted_wherever_the_call_is() {
    let server = start(provider()).await;
    let handle = server.handle();
    let faults = [
        Fault::Hang,
        Fault::StallAfter(1),
        Fault::KeepAlivesOnly { every: Duration::from_millis(2) },
        Fault::Slow(Duration::from_secs(3600)),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        handle.fail_next(1, &fault);
        let body = body_for(MESSAGES, true).to_string();
        let call = tokio::spawn(send(server.addr(), request(MESSAGES, body.as_bytes())));
        handle.until(|stats| stats.in_flight == 1).await;
        call.abort();
        soon(handle.until(|stats| stats.in_flight == 0)).await;
        assert_eq!(handle.stats().cancelled, n as u64 + 1, "{fault}");
    }
}

#[tokio::test]
async fn a_stall_and_keep_alives_come_after_their_tokens() {
    let server = start(provider()).await;
    for (fault, wanted) in [
        (Fault::StallAfter(2), "from "),
        (Fault::KeepAlivesOnly { every: Duration::from_millis(1) }, "ping\"}\n\nevent: ping"),
    ] {
        server.handle().fail_next(1, &fault);
        let body = body_for(MESSAGES, true).to_string();
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        let head =
            format!("POST {MESSAGES} HTTP/1.0\r\nanthropic-version: 1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut text, mut buf) = (String::new(), [0; 4096]);
        while !text.replace(": \"ping", ":\"ping").contains(wanted) {
            let n = soon(stream.read(&mut buf)).await.unwrap();
            assert!(n > 0, "{fault}: {text}");
            text.push_str(std::str::from_utf8(&buf[..n]).unwrap());
        }
        assert!(!text.contains("message_stop"));
        assert_eq!(server.handle().stats().in_flight, 1);
        drop(stream);
        soon(server.handle().until(|stats| stats.in_flight == 0)).await;
    }
}

#[tokio::test]
async fn a_refused_call_is_reset_before_the_answer() {
    let server = start(provider()).await;
    server.handle().fail_next(1, &Fault::Refused);
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let body = body_for(CHAT, false).to_string();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let error = soon(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(server.handle().stats().failed_by["refused"], 1);
}

#[tokio::test]
async fn down_refuses_and_up_answers_on_the_same_port() {
    let server = start(provider()).await;
    let addr = server.addr();
    for _ in 0..3 {
        server.handle().fail_next(1, &Fault::Hang);
        let body = body_for(CHAT, false).to_string();
        let hanging = tokio::spawn(send(addr, request(CHAT, body.as_bytes())));
        server.handle().until(|stats| stats.in_flight == 1).await;
        server.down().await.unwrap();
        assert!(soon(hanging).await.unwrap().is_err());
        assert_eq!(server.handle().stats().in_flight, 0);
        let error = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        server.up().await.unwrap();
        assert_eq!(ask(&server, CHAT, false).await.status, 200);
    }
}

#[tokio::test]
async fn toxics_reach_the_socket() {
    let server = start(provider()).await;
    let body = body_for(CHAT, true).to_string();
    let call = || send(server.addr(), request(CHAT, body.as_bytes()));

    server.toxic(Toxic::Slicer { size: 7, gap: Duration::ZERO });
    assert!(ask(&server, CHAT, true).await.text.ends_with("[DONE]\n\n"));
    server.toxic(Toxic::Latency { delay: Duration::from_millis(2), jitter: Duration::ZERO });
    assert!(ask(&server, CHAT, true).await.text.ends_with("[DONE]\n\n"));
    server.clear_toxics();

    server.toxic(Toxic::Limit { bytes: 500 });
    let got = call().await.unwrap();
    assert!(!got.whole && got.text.len() < 500);
    server.clear_toxics();

    server.toxic(Toxic::Reset { after_bytes: 0 });
    assert!(call().await.is_err());
    server.clear_toxics();

    server.toxic(Toxic::Down);
    assert!(call().await.is_err());
    server.clear_toxics();

    server.toxic(Toxic::SlowClose { delay: Duration::from_millis(2) });
    assert!(ask(&server, CHAT, true).await.whole);
    server.clear_toxics();

    let before = server.handle().stats().calls;
    server.toxic(Toxic::Hang);
    let hanging = tokio::spawn(call());
    // The server has no event for a request that it does not read; a healthy one shows it is alive.
    tokio::task::yield_now().await;
    assert_eq!(server.handle().stats().calls, before);
    server.clear_toxics();
    assert!(soon(hanging).await.unwrap().unwrap().whole);
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let server = start(provider()).await;
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for n in 0..20 {
        sender.ready().await.unwrap();
        let path = [MESSAGES, CHAT, GENERATE_STREAM][n % 3];
        let body = body_for(path, n % 2 == 0).to_string();
        let response = sender.send_request(request(path, body.as_bytes())).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
    }
    assert_eq!(server.handle().stats().answered, 20);
}

#[tokio::test]
async fn stopping_ends_every_connection_and_leaves_no_task() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let server = start(provider()).await;
    let handle = server.handle();
    handle.fail(Fault::Hang);
    let body = body_for(CHAT, false).to_string();
    let hanging = tokio::spawn(send(server.addr(), request(CHAT, body.as_bytes())));
    handle.until(|stats| stats.in_flight == 1).await;
    let addr = server.addr();
    server.stop().await;
    assert!(soon(hanging).await.unwrap().is_err());
    assert!(TcpStream::connect(addr).await.is_err());
    while metrics.num_alive_tasks() > before {
        tokio::task::yield_now().await;
    }
    assert_eq!((handle.stats().in_flight, handle.stats().cancelled), (0, 1));
}
