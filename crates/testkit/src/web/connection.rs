//! Connections.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Break, Framing};
use super::{Request, Shared};

/// What is written at once, where no other pace is asked for.
const PIECE: usize = 64 << 10;

/// Serves until it is no longer `running`.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>, running: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = running.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (shared, running) = (shared.clone(), running.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = running.cancelled() => {}
                // Whoever asked is gone, which is their business.
                _ = serve(stream, &shared) => {}
            }
        });
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // Without it, each small answer would wait for the other side's delayed acknowledgement.
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(request) = Request::read(&mut reader).await? {
        let answer = Answer::to(&request, &mut shared.lock());
        if !send(&request, answer, shared, &mut writer).await? {
            break;
        }
    }
    writer.shutdown().await
}

/// Sends one answer, and says whether the connection goes on.
async fn send(request: &Request, answer: Answer, shared: &Shared, writer: &mut OwnedWriteHalf) -> io::Result<bool> {
    tokio::time::sleep(answer.delay).await;
    if answer.hangs {
        std::future::pending::<()>().await;
    }
    if let Some(raw) = &answer.raw {
        writer.write_all(raw).await?;
        return Ok(false);
    }
    writer.write_all(answer.head().as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(answer.framing != Framing::Close);
    }
    let mut at = 0_u64;
    loop {
        let mut body = answer.body.clone();
        while !body.is_empty() {
            let most = answer.pace.map_or(PIECE, |(bytes, _)| bytes).min(body.len());
            let left = answer.breaks.map_or(most as u64, |(after, _)| after.saturating_sub(at));
            let piece = body.split_to(most.min(usize::try_from(left).unwrap_or(most)));
            if piece.is_empty() {
                break;
            }
            match answer.framing {
                Framing::Chunks => {
                    let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                    writer.write_all(&framed).await?;
                }
                Framing::Length | Framing::Close => writer.write_all(&piece).await?,
            }
            at += piece.len() as u64;
            if let Some((_, pause)) = answer.pace {
                tokio::time::sleep(pause).await;
            }
        }
        if let Some((after, what)) = answer.breaks
            && at >= after
        {
            if let Some(page) = answer.becomes {
                shared.lock().pages.insert(request.path.clone(), page);
            }
            if what == Break::Silence {
                std::future::pending::<()>().await;
            }
            return Ok(false);
        }
        if !answer.endless || answer.body.is_empty() {
            break;
        }
    }
    if answer.framing == Framing::Chunks {
        writer.write_all(b"0\r\n\r\n").await?;
    }
    Ok(answer.framing != Framing::Close)
}
