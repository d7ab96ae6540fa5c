//! Connections: who it is, what they may, and HTTP until they go.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use adamant::peer::{self, Peer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::rights::Rights;
use crate::route::{self, Asker, Service};

/// How long a request's head or body may take.
pub(crate) const STALLED: Duration = Duration::from_secs(30);
/// How long accepting rests after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most connections at once. More wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Answers until `stopped`, and then what was begun.
pub(crate) async fn run(
    listener: UnixListener,
    rights: Rights,
    service: Arc<Service>,
    stopped: watch::Receiver<bool>,
) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopping = stopped.clone();
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("never closed");
        let accepted = tokio::select! {
            () = stop(&mut stopping) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some(asker) = admit(&stream, &rights) else { continue };
                let (service, stopped) = (Arc::clone(&service), stopped.clone());
                tokio::spawn(async move {
                    serve(stream, asker, service, stopped).await;
                    drop(seat);
                });
            }
            Err(err) => {
                tell!("cannot accept connections, trying on: {err}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those that are still being answered hold their seats.
    let all = u32::try_from(CONNECTIONS_MAX - 1).expect("a few hundred");
    let _ = tokio::time::timeout(STALLED, seats.acquire_many(all)).await;
}

fn admit(stream: &UnixStream, rights: &Rights) -> Option<Asker> {
    let peer = peer::of(stream).ok()?;
    let found = rights.of(&peer, &peer::groups(stream, &peer));
    if found.is_none() {
        let Peer { uid, gid, pid } = peer;
        tell!("caller refused, no right fits: uid {uid} gid {gid} pid {pid}");
    }
    // Answered as one who may nothing, so that the caller is told and not hung up on.
    Some(Asker { uid: peer.uid, rights: Arc::new(found.unwrap_or_default()) })
}

async fn serve(
    stream: UnixStream,
    asker: Asker,
    service: Arc<Service>,
    mut stopped: watch::Receiver<bool>,
) {
    let asker = Arc::new(asker);
    let answer = service_fn(move |request| {
        let (service, asker) = (Arc::clone(&service), Arc::clone(&asker));
        async move { Ok::<_, Infallible>(route::respond(&service, &asker, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(STALLED)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let is_stopped = tokio::select! {
        // What ended it is of the other side's making.
        _ = connection.as_mut() => false,
        () = stop(&mut stopped) => true,
    };
    if is_stopped {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Tells everybody when SIGTERM or SIGINT comes.
pub(crate) fn stop_on_signals() -> io::Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (stop, stopped) = watch::channel(false);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        let _ = stop.send(true);
    });
    Ok(stopped)
}
