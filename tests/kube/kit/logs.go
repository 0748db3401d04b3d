package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// Where a kubelet listens.
	logsPort  = 10250
	logsPause = 50 * time.Millisecond
)

// openLog opens the file of a container's output, all of its lives and those of earlier pods of the name, and notes
// where this life begins.
func (k *kubelet) openLog(name string) (*os.File, error) {
	file, err := os.OpenFile(k.o.at("logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	k.mu.Lock()
	k.logStarts[name] = append(k.logStarts[name], info.Size())
	k.mu.Unlock()
	return file, nil
}

// serveLogs answers what the API server asks of a kubelet for `kubectl logs`: the present life of a container, or the
// one before.
func (k *kubelet) serveLogs() error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	address := net.JoinHostPort(gateway, strconv.Itoa(logsPort))
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		name := strings.Join([]string{r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")}, "_")
		if err := k.writeLog(w, r, name); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	go func() { k.say("logs", "%v", http.Serve(listener, mux)) }()
	return nil
}

func (k *kubelet) writeLog(w http.ResponseWriter, r *http.Request, name string) error {
	query := r.URL.Query()
	k.mu.Lock()
	starts := k.logStarts[name]
	k.mu.Unlock()
	life := len(starts) - 1
	if query.Get("previous") == "true" {
		life--
	}
	if life < 0 {
		return fmt.Errorf("there is no such life of %s", name)
	}
	file, err := os.Open(k.o.at("logs", name+".log"))
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(starts[life], io.SeekStart); err != nil {
		return err
	}
	var all io.Reader = file
	present := life == len(starts)-1
	if !present {
		all = io.LimitReader(file, starts[life+1]-starts[life])
	}
	text, err := io.ReadAll(all)
	if err != nil {
		return err
	}
	if lines, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		text = tail(text, lines)
	}
	if _, err := w.Write(text); err != nil || query.Get("follow") != "true" || !present {
		return nil
	}
	follow(r.Context(), w, file)
	return nil
}

// follow goes on until the reader leaves; a container that has ended may live again.
func follow(ctx context.Context, w http.ResponseWriter, file *os.File) {
	flusher, ok := w.(http.Flusher)
	for ok && ctx.Err() == nil {
		flusher.Flush()
		if n, err := io.Copy(w, file); err != nil {
			return
		} else if n == 0 {
			time.Sleep(logsPause)
		}
	}
}

func tail(text []byte, lines int) []byte {
	all := strings.SplitAfter(string(text), "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return []byte(strings.Join(all[max(0, len(all)-max(0, lines)):], ""))
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kit"},
		NotAfter: time.Now().Add(240 * time.Hour), IPAddresses: []net.IP{net.ParseIP(gateway)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
