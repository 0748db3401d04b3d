package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
)

// auditPolicy keeps every request but the kit's own and the person's at the keyboard, who are `admin`, without bodies.
// What comes with a service account's token is what tests ask about.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [admin]}
- {level: None, users: ["system:apiserver"]}
- {level: Metadata}
`

type credentials struct{ kubeconfig string }

// writeCredentials makes the key that signs service accounts' tokens, the administrator's token and the audit policy.
func writeCredentials(o *options) (*credentials, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	token := hex.EncodeToString(raw)
	made := &credentials{kubeconfig: fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: kit, cluster: {server: "https://%s:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: kit, context: {cluster: kit, user: admin}}]
current-context: kit
`, gateway, token)}
	files := map[string][]byte{
		"sa.key":            pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		"sa.pub":            pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"tokens.csv":        []byte(token + ",admin,admin,\"system:masters\"\n"),
		"audit-policy.yaml": []byte(auditPolicy),
		"kubeconfig":        []byte(made.kubeconfig),
	}
	for name, text := range files {
		if err := os.WriteFile(o.at(name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return made, nil
}
