//! The port and its connections.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control;
use super::life::Life;
use super::{Shared, paths};

/// Idle connections are closed after this time, as vLLM's server does.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// A port that is held whether or not anybody listens on it.
pub(super) struct Port {
    pub(super) addr: SocketAddr,
    /// Bound and never listening: connections are refused while nothing else listens, and nobody else gets the port.
    _held: TcpSocket,
}

impl Port {
    pub(super) fn hold(addr: SocketAddr) -> io::Result<Self> {
        let held = socket(addr)?;
        held.bind(addr)?;
        Ok(Self { addr: held.local_addr()?, _held: held })
    }

    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        let socket = socket(self.addr)?;
        socket.bind(self.addr)?;
        socket.listen(BACKLOG)
    }
}

/// A socket that can share its port with another that does not listen.
fn socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// Serves one life until it is over. `listening` says whether connections are taken.
pub(super) async fn serve(shared: Arc<Shared>, life: Arc<Life>, first: TcpListener, listening: watch::Sender<bool>) {
    let connections = TaskTracker::new();
    let mut faults = life.faults.clone();
    let mut listener = Some(first);
    while !life.over.is_cancelled() {
        let Some(open) = listener.take() else {
            tokio::select! {
                () = life.over.cancelled() => {}
                _ = faults.wait_for(|faults| !faults.refuse) => match shared.port.listen() {
                    Ok(open) => listener = Some(open),
                    Err(error) => {
                        tracing::error!(%error, addr = %shared.port.addr, "cannot listen again");
                        break;
                    }
                },
            }
            continue;
        };
        listening.send_replace(true);
        // Connections of a port that refuses are closed with it.
        let open_ones = life.over.child_token();
        accept(&shared, &life, open, &mut faults, &connections, &open_ones).await;
        open_ones.cancel();
        connections.close();
        connections.wait().await;
        connections.reopen();
        listening.send_replace(false);
    }
}

/// Takes connections until the life is over or the port is to refuse them.
async fn accept(
    shared: &Arc<Shared>,
    life: &Arc<Life>,
    listener: TcpListener,
    faults: &mut watch::Receiver<super::Faults>,
    connections: &TaskTracker,
    open: &CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = life.over.cancelled() => return,
            _ = faults.wait_for(|faults| faults.refuse) => return,
            accepted = listener.accept() => {
                // A connection that failed before it was taken is its client's loss.
                let Ok((stream, _)) = accepted else { continue };
                let (shared, life, open) = (Arc::clone(shared), Arc::clone(life), open.clone());
                connections.spawn(async move {
                    tokio::select! {
                        biased;
                        () = open.cancelled() => {}
                        () = connection(shared, life, stream) => {}
                    }
                });
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, life: Arc<Life>, stream: TcpStream) {
    // Without the first each answer in two parts waits for the client's delayed acknowledgement, 40 ms. The second is
    // there because vLLM's server closes connections that fall idle, not those that have not been used yet.
    if stream.set_nodelay(true).is_err() || stream.readable().await.is_err() {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, life) = (Arc::clone(&shared), Arc::clone(&life));
        Box::pin(async move {
            if request.uri().path().starts_with("/sim/") {
                return Ok::<_, Infallible>(control::answer(&shared, &life, request).await);
            }
            let mut faults = life.faults.clone();
            // The faults' sender outlives every life; without it there is nothing to wait for.
            drop(faults.wait_for(|faults| !faults.hang_all).await);
            Ok(paths::answer(&life, request).await)
        })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(KEEP_ALIVE);
    let mut connection = http.serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream = connection.into_parts().io.into_inner();
    if ended.is_err_and(|error| error.is_user()) {
        // A body that was to break off: a reset cannot be taken for its end.
        let _ = stream.set_zero_linger();
    } else {
        // The client may have closed it first.
        let _ = stream.shutdown().await;
    }
}
